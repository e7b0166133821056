import { cp, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { bringsOnnxruntime, heavyProblems } from './dependencies.js';
import { bytesIn, installedPackages } from './installation.js';
import { codeBlocks, commands, installLines, outputProblems } from './readme.js';
import { run } from './run.js';

/** The models that the examples of onnx-graph read, which their reader is to bring. */
const models = {
  'vision_encoder.onnx': 'packages/onnx-graph/fixtures/clip-eager-17.onnx',
  'decoder.onnx': 'packages/onnx-graph/fixtures/decoders/llama-group-query.onnx',
};

/** What that decoder takes for 14 tokens with an empty cache: 4 layers, 2 heads of keys, 16 channels. */
const feeds = `import { Tensor } from 'onnxruntime-node';
const empty = new Tensor('float32', new Float32Array(0), [1, 2, 0, 16]);
const caches = [0, 1, 2, 3].flatMap((i) => ['key', 'value'].map((each) => ['past_key_values.' + i + '.' + each, empty]));
export const feeds = {
  inputs_embeds: new Tensor('float32', Float32Array.from({ length: 14 * 16 }, (_, i) => Math.sin(i)), [1, 14, 16]),
  attention_mask: new Tensor('int64', new BigInt64Array(14).fill(1n), [1, 14]),
  ...Object.fromEntries(caches),
};
`;

/** Where the compiler puts an example, which runs from there. */
const COMPILED = 'compiled';

/** Command lines that are not tried: one takes minutes, the other shows what it made. */
const untried = ['npx foveate ablate', 'npx foveate report out'];

/**
 * Installs a package alone, loads it and checks its types; then installs what its README says and runs the
 * examples.
 *
 * @param {import('./packages.js').Package} each
 * @param {object} options
 * @param {string} options.root of the repository
 * @param {import('./run.js').Place} options.place an empty folder
 * @param {(text: string) => void} options.progress
 * @returns {Promise<{ sizes: import('./installation.js').Sizes, problems: string[], outputs: string[] }>}
 */
export async function tryPackage(each, { root, place, progress }) {
  await writeFile(path.join(place.cwd, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  progress('installing it alone');
  await install([each.name], place);
  const names = await installedPackages(place.cwd);
  const modules = path.join(place.cwd, 'node_modules');
  const sizes = {
    name: each.name,
    own: await bytesIn(path.join(modules, each.name)),
    installed: await bytesIn(modules),
    packages: names.length,
  };
  const problems = heavyProblems(each.name, names);
  if (each.manifest.exports !== undefined) {
    progress('loading it');
    problems.push(...(await loadProblems(each.name, { root, place })));
  }
  progress("installing what its README's examples use");
  for (const line of installLines(each.readme)) await install(line, place);
  progress('running the examples');
  const tried = await tryExamples(each, { root, place });
  return { sizes, problems: [...problems, ...tried.problems], outputs: tried.outputs };
}

/**
 * Runs the examples of a README, word for word.
 *
 * @param {import('./packages.js').Package} each
 * @param {{ root: string, place: import('./run.js').Place }} options
 */
async function tryExamples({ name, readme }, { root, place }) {
  const examples = codeBlocks(readme, 'js');
  const files = examples.map((_, index) => `example-${index + 1}.js`);
  for (const [index, file] of files.entries()) await writeFile(path.join(place.cwd, file), examples[index]);
  if (name === '@foveate/onnx-graph') {
    for (const [file, target] of Object.entries(models)) {
      await cp(path.join(root, target), path.join(place.cwd, file));
    }
    await writeFile(path.join(place.cwd, 'my-decoder.js'), feeds);
  }
  const problems = files.length === 0 ? [] : await compile(files, { root, place });
  /** @type {string[]} */
  const outputs = [];
  for (const [index, file] of files.entries()) {
    const output = await attempt(run(process.execPath, [path.join(COMPILED, file)], place), place, problems);
    if (output === undefined) continue;
    problems.push(...outputProblems(examples[index], output));
    outputs.push(output);
  }
  for (const line of commands(readme).filter((each) => !untried.includes(each))) {
    const output = await attempt(run('sh', ['-c', line], place), place, problems);
    if (output !== undefined) outputs.push(`$ ${line}\n${output}`);
  }
  return { problems, outputs };
}

/**
 * What a run printed, or undefined after its failure has become a problem. An interruption is none, and goes
 * on.
 *
 * @param {Promise<string>} running
 * @param {import('./run.js').Place} place
 * @param {string[]} problems
 */
async function attempt(running, place, problems) {
  try {
    return await running;
  } catch (error) {
    if (place.signal.aborted) throw error;
    problems.push(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

/** @param {string[]} names @param {import('./run.js').Place} place */
async function install(names, place) {
  const env = { ...place.env };
  if (names.some(bringsOnnxruntime)) env.ONNXRUNTIME_NODE_INSTALL = 'skip';
  await run('npm', ['install', ...names], { ...place, env });
}

/**
 * Whether a package that stands alone can be imported and required, and its types are whole.
 *
 * @param {string} name
 * @param {{ root: string, place: import('./run.js').Place }} options
 */
async function loadProblems(name, { root, place }) {
  const specifier = JSON.stringify(name);
  const ways = [
    [
      'module',
      `import * as it from ${specifier}; if (Object.keys(it).length === 0) throw new Error('no exports');`,
    ],
    ['commonjs', `if (Object.keys(require(${specifier})).length === 0) throw new Error('no exports');`],
  ];
  /** @type {string[]} */
  const problems = [];
  for (const [type, code] of ways) {
    await attempt(run(process.execPath, [`--input-type=${type}`, '--eval', code], place), place, problems);
  }
  await writeFile(path.join(place.cwd, 'types.ts'), `export * from ${specifier};\n`);
  problems.push(...(await compile(['types.ts'], { root, place })));
  return problems;
}

/**
 * Compiles files as a strict project would. Problems inside other people's declarations are theirs.
 *
 * @param {string[]} files
 * @param {{ root: string, place: import('./run.js').Place }} options
 */
async function compile(files, { root, place }) {
  const compilerOptions = {
    target: 'es2023',
    module: 'nodenext',
    strict: true,
    allowJs: true,
    checkJs: true,
    rootDir: '.',
    outDir: COMPILED,
    types: ['node'],
    typeRoots: [path.join(root, 'node_modules', '@types')],
  };
  await writeFile(path.join(place.cwd, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const compiler = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  try {
    await run(process.execPath, [compiler, '--pretty', 'false'], place);
    return [];
  } catch (error) {
    if (place.signal.aborted) throw error;
    const mine = String(error).split('\n').filter(ownTypeProblem);
    return mine.map((line) => `types: ${line}`);
  }
}

/**
 * @param {string} line of the compiler
 * @returns {boolean} whether it is a problem of an example or of our packages
 */
export function ownTypeProblem(line) {
  return /^[^ ].*: error TS\d+/.test(line) && !/node_modules\/(?!@?foveate\/)/.test(line);
}
