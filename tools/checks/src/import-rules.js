/**
 * Who may import whom, in code that ships. Arrows point one way: reducers -> core, lvlm -> core + onnx-graph,
 * eval -> core + lvlm, the app -> everything. ESLint and `check-imports.js` both read this table.
 *
 * `internal`: packages of this repository. `external`: packages of others (absent: whatever package.json declares).
 * `builtins`: whether Node's own modules may be used.
 */
const reducer = { internal: ['@foveate/core'], external: [], builtins: false };
const fopru = { ...reducer, internal: ['@foveate/core', '@foveate/fopru-significance'] };

/** @type {Record<string, { internal: string[] | 'all', external?: string[], builtins: boolean }>} */
export const importRules = {
  '@foveate/core': { internal: [], external: [], builtins: false },
  '@foveate/fopru-significance': reducer,
  '@foveate/fopru-rank': fopru,
  '@foveate/fopru-row': fopru,
  '@foveate/pooling': reducer,
  '@foveate/onnx-graph': { internal: [], builtins: true },
  '@foveate/lvlm': { internal: ['@foveate/core', '@foveate/onnx-graph'], builtins: true },
  '@foveate/tiny-llava': { internal: [], external: [], builtins: true },
  '@foveate/eval': { internal: ['@foveate/core', '@foveate/lvlm'], builtins: true },
  foveate: { internal: 'all', builtins: true },
};
