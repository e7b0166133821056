export { casesOf, methodNames, UnknownMethodError } from './cases.js';
export type { CaseArray, CasesOfMethod, Implementation, Kept, MethodCase, MethodName } from './cases.js';
export { checkCases } from './check.js';
export type { CaseDifference } from './check.js';
export type { InputsOf, ParamsOf, PyramidDropLayer } from './inputs.js';
