/**
 * Who may import whom in code that ships. Arrows point one way: reducers and tfjs -> core, lvlm and
 * transformers-js -> core + onnx-graph, eval -> core + lvlm, the app -> everything. ESLint and the package check both read this table.
 *
 * @typedef {object} ImportRule
 * @property {string[]} [internal] packages of this repository; absent: all of them
 * @property {string[]} [external] packages of others; absent: whatever package.json declares
 * @property {boolean} builtins whether Node's own modules may be used
 * @property {string[]} [tests] packages of this repository that only tests and benchmarks may import
 * @property {string[]} [testing] packages that only the `./testing` entry may import
 */

/**
 * What a reducer may import, and every package that has no line of its own below is a reducer. @type
 * {ImportRule}
 */
const reducer = { internal: ['@foveate/core'], external: [], builtins: false };
const fopru = { ...reducer, internal: ['@foveate/core', '@foveate/fopru-significance'] };
const reducers = [
  '@foveate/baselines',
  '@foveate/fastv',
  '@foveate/fopru-rank',
  '@foveate/fopru-row',
  '@foveate/pooling',
  '@foveate/prumerge',
  '@foveate/visionzip',
  '@foveate/vispruner',
];

/** @type {Record<string, ImportRule>} */
const rules = {
  '@foveate/core': { internal: [], external: [], builtins: false, testing: ['fast-check'] },
  '@foveate/fopru-rank': fopru,
  '@foveate/fopru-row': fopru,
  '@foveate/onnx-graph': { internal: [], external: ['@bufbuild/protobuf', 'onnx-buf'], builtins: true },
  '@foveate/lvlm': {
    internal: ['@foveate/core', '@foveate/onnx-graph'],
    builtins: true,
    tests: [
      ...reducers,
      ...[
        '@foveate/dart',
        '@foveate/priortr',
        '@foveate/pyramiddrop',
        '@foveate/sparsevlm',
        '@foveate/v2drop',
      ],
      ...['@foveate/early-drop', '@foveate/tfjs', '@foveate/tiny-llava', '@foveate/tome'],
    ],
  },
  '@foveate/tfjs': {
    internal: ['@foveate/core'],
    builtins: true,
    tests: [...reducers, '@foveate/onnx-graph'],
  },
  '@foveate/transformers-js': {
    internal: ['@foveate/core', '@foveate/onnx-graph'],
    builtins: false,
    tests: [...reducers, '@foveate/fastervlm', '@foveate/lvlm', '@foveate/tiny-llava'],
  },
  '@foveate/tiny-llava': { internal: [], external: [], builtins: true },
  '@foveate/reduction-cases': { internal: [], external: [], builtins: true },
  '@foveate/eval': {
    internal: ['@foveate/core', '@foveate/lvlm'],
    builtins: true,
    tests: [...reducers, '@foveate/tiny-llava'],
  },
  foveate: { builtins: true },
};

/**
 * @param {string} packageName
 * @returns {ImportRule}
 */
function importRule(packageName) {
  return rules[packageName] ?? reducer;
}

/**
 * What is wrong with one import, or undefined.
 *
 * @param {string} packageName the importing package
 * @param {{ test: boolean, testing: boolean }} place where the import stands: a test, or the `./testing`
 * entry
 * @param {string} specifier an import specifier that is not relative
 * @returns {string | undefined}
 */
export function importProblem(packageName, place, specifier) {
  const rule = importRule(packageName);
  const imported = packageOf(specifier);
  if (imported === packageName) return `imports itself by name; use a relative path`;
  if (imported.startsWith('node:')) {
    return rule.builtins || place.test ? undefined : `must run without Node, so it cannot import ${imported}`;
  }
  if (imported === 'foveate' || imported.startsWith('@foveate/')) {
    if (rule.internal === undefined) return undefined;
    const allowed = [...rule.internal, ...(place.test ? (rule.tests ?? []) : [])];
    return allowed.includes(imported) ? undefined : `may not import ${imported}; allowed: ${list(allowed)}`;
  }
  if (place.test || rule.external === undefined) return undefined;
  const allowed = [...rule.external, ...(place.testing ? (rule.testing ?? []) : [])];
  return allowed.includes(imported) ? undefined : `may not import ${imported}; allowed: ${list(allowed)}`;
}

/** @param {string} specifier */
function packageOf(specifier) {
  if (specifier.startsWith('node:')) return specifier;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** @param {string[]} names */
function list(names) {
  return names.length === 0 ? 'nothing' : names.join(', ');
}
