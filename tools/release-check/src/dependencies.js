/**
 * Which packages may bring which heavy dependency along. Whoever installs a method gets a page of code, not a
 * runtime.
 */

/** Packages of tens of megabytes, or with binaries: by name, or by scope. */
const heavy = [
  'onnxruntime-node',
  'onnxruntime-web',
  '@tensorflow/*',
  'sharp',
  '@huggingface/*',
  'typescript',
  'playwright-core',
  '@sparticuz/*',
  '@foveate/tiny-llava',
];

const runner = ['onnxruntime-node', 'sharp', '@huggingface/*'];
/** Peers, which npm installs along. */
const transformersJs = [...runner, 'onnxruntime-web'];

/** A package without a line here brings nothing heavy. @type {Record<string, string[]>} */
const allowed = {
  '@foveate/tiny-llava': ['@foveate/tiny-llava'],
  '@foveate/tfjs': ['@tensorflow/*'],
  '@foveate/lvlm': runner,
  '@foveate/transformers-js': transformersJs,
  '@foveate/eval': runner,
  foveate: [...runner, '@foveate/tiny-llava', '@tensorflow/*'],
};

/** @param {string} name @returns {boolean} whether installing the package installs onnxruntime-node */
export function bringsOnnxruntime(name) {
  return name === 'onnxruntime-node' || (allowed[name] ?? []).includes('onnxruntime-node');
}

/**
 * What is wrong with the set of packages that an installation of one package brought.
 *
 * @param {string} name the package installed
 * @param {string[]} installed the names of all that lies in node_modules then
 * @returns {string[]}
 */
export function heavyProblems(name, installed) {
  const mine = allowed[name] ?? [];
  const dragged = installed.filter(
    (each) =>
      heavy.some((pattern) => matches(each, pattern)) && !mine.some((pattern) => matches(each, pattern)),
  );
  const stale = mine.filter((pattern) => !installed.some((each) => matches(each, pattern)));
  return [
    ...dragged.map(
      (each) => `installs ${each}, which tools/release-check/src/dependencies.js does not allow`,
    ),
    ...stale.map(
      (each) => `no longer installs ${each}: take it out of tools/release-check/src/dependencies.js`,
    ),
  ];
}

/** @param {string} name @param {string} pattern */
function matches(name, pattern) {
  return pattern.endsWith('/*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
