import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const tfjsVersion = '4.22.0';
const wheel = 'tensorflow-cpu==2.21.0';
const napiVersion = 8; // the newest that the packages name; every Node since 16 has it

/**
 * Installs packages of TensorFlow.js in a folder and builds their native addons against TensorFlow's Python
 * wheel. What is there already is kept.
 *
 * @param {string} folder
 * @param {('tfjs-node-gpu' | 'tfjs-node')[]} packages
 */
export function buildAddons(folder, packages) {
  mkdirSync(folder, { recursive: true });
  const names = packages.map((name) => `@tensorflow/${name}`);
  const modules = path.join(folder, 'node_modules');
  if (![...names, 'node-api-headers'].every((name) => existsSync(path.join(modules, name)))) {
    console.log(`installing ${names.join(', ')} ${tfjsVersion} without their install scripts`);
    writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
    const wanted = [...names.map((name) => `${name}@${tfjsVersion}`), 'node-api-headers@1'];
    run(
      'npm',
      ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...wanted],
      folder,
    );
  }

  const tensorflow = path.join(folder, 'wheel', 'tensorflow');
  if (!existsSync(tensorflow)) {
    console.log(`unpacking ${wheel} (1.3 GB)`);
    const unpacked = path.join(folder, 'wheel.part');
    rmSync(unpacked, { recursive: true, force: true });
    const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--no-compile', '--target', unpacked, wheel];
    run(process.env.PYTHON ?? 'python3', pip, folder);
    run('mv', [unpacked, path.dirname(tensorflow)], folder);
  }
  for (const name of names) buildAddon(path.join(modules, name), tensorflow, modules);
}

/**
 * What binding.gyp of the package says, as one call of the compiler.
 *
 * @param {string} directory the package
 * @param {string} tensorflow the package `tensorflow` of the wheel
 * @param {string} modules the folder `node_modules` that has node-api-headers
 */
function buildAddon(directory, tensorflow, modules) {
  const libraries = path.join(directory, 'deps', 'lib');
  const addon = path.join(directory, 'lib', `napi-v${napiVersion}`, 'tfjs_binding.node');
  if (existsSync(addon)) return;
  console.log(`compiling the addon of ${path.basename(directory)}`);
  mkdirSync(libraries, { recursive: true });
  mkdirSync(path.dirname(addon), { recursive: true });
  for (const [library, from] of [
    ['libtensorflow', 'libtensorflow_cc'],
    ['libtensorflow_framework', 'libtensorflow_framework'],
  ]) {
    const file = path.join(tensorflow, `${from}.so.2`);
    // By the first name the linker finds it, by the second the loader.
    for (const link of [`${library}.so`, `${from}.so.2`]) {
      rmSync(path.join(libraries, link), { force: true });
      symlinkSync(file, path.join(libraries, link));
    }
  }
  const headers = ['..', path.join(tensorflow, 'include'), path.join(modules, 'node-api-headers', 'include')];
  const built = `${addon}.part`;
  run(
    process.env.CXX ?? 'g++',
    [
      ...['-std=c++17', '-O2', '-fPIC', '-shared', `-DNAPI_VERSION=${napiVersion}`],
      ...headers.map((header) => `-I${header}`),
      ...['binding/tfjs_backend.cc', 'binding/tfjs_binding.cc'],
      ...[`-L${libraries}`, '-ltensorflow', '-ltensorflow_framework', '-Wl,-rpath,$ORIGIN/../../deps/lib'],
      ...['-o', built],
    ],
    directory,
  );
  run('mv', [built, addon], directory);
}

/** @param {string} command @param {string[]} args @param {string} cwd */
function run(command, args, cwd) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`);
}
