export type { AttentionMarginals, MarginalsOptions, TensorBackend } from './backend.js';
export { checkBudget, checkScoreBudget, resolveBudget, resolveScoreBudget } from './budget.js';
export type { Budget, CountBudget, MassBudget, RatioBudget, ResolvedBudget, ScoreBudget } from './budget.js';
export { carryTokens } from './carry-tokens.js';
export { checkChoice } from './check-choice.js';
export {
  FoveateError,
  GridRequiredError,
  InvalidArgumentError,
  InvalidPlanError,
  InvalidSignalError,
  PlanCompositionError,
  SignalUnavailableError,
  UnknownReducerError,
} from './errors.js';
export { nearestKeysWith } from './nearest-keys.js';
export type { RowProducts } from './nearest-keys.js';
export { applyPlan, composePlans } from './plan-algebra.js';
export {
  createPlan,
  identityPlan,
  isIdentity,
  isSelection,
  maxPlan,
  mergePlan,
  picksTokens,
  selectionPlan,
  withWarnings,
} from './plan.js';
export type { Grid, PlanNotes, PlanParts, ReductionPlan, WeightedSources } from './plan.js';
export { checkReducer, defineReducer } from './reducer.js';
export type { LanguageReducer, ReducerBase, TokenReducer, VisionReducer } from './reducer.js';
export {
  budgetOptions,
  choiceOption,
  createRegistry,
  flagOption,
  massOption,
  numberOption,
  reducerEntry,
} from './registry.js';
export type {
  OptionDescription,
  ReducerEntry,
  ReducerEntryInit,
  ReducerRegistry,
  TextOption,
} from './registry.js';
export { referenceBackend } from './reference-backend.js';
export type { HostTensor } from './reference-backend.js';
export { signalId } from './signals.js';
export type {
  EncoderLayer,
  EncoderSignalRequest,
  PromptSignalRequest,
  ShareSignalRequest,
  SignalName,
  SignalRequest,
} from './signals.js';
export { createTensorTokens } from './tensor-tokens.js';
export type { TensorSignal, TensorTokensInit } from './tensor-tokens.js';
export { topIndices, topIndicesAscending } from './top-indices.js';
export { createVisualTokens } from './visual-tokens.js';
export type { Signal, Span, VisualTokens, VisualTokensInit } from './visual-tokens.js';
