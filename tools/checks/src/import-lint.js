import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { importProblem } from './import-rules.js';

/**
 * The ESLint rule that holds every import, static or dynamic, of types or of values, against import-rules.js.
 *
 * @type {import('eslint').Rule.RuleModule}
 */
const imports = {
  meta: { type: 'problem', schema: [] },
  create(context) {
    const { directory, name } = packageOfFile(context.filename);
    const inside = path.relative(path.join(directory, 'src'), context.filename);
    const place = {
      test: inside.endsWith('.test.ts'),
      testing: inside.startsWith(`testing${path.sep}`),
    };
    /** @param {any} node @param {unknown} specifier */
    const check = (node, specifier) => {
      if (typeof specifier !== 'string') {
        context.report({ node, message: 'The name of an imported module must be a plain string.' });
        return;
      }
      const problem = specifier.startsWith('.')
        ? relativeProblem(directory, context.filename, specifier)
        : importProblem(name, place, specifier);
      if (problem !== undefined) context.report({ node, message: `${name} ${problem}.` });
    };
    return {
      ImportDeclaration: (node) => check(node, node.source.value),
      ExportAllDeclaration: (node) => check(node, node.source.value),
      ExportNamedDeclaration: (node) => node.source && check(node, node.source.value),
      ImportExpression: (node) => check(node, node.source.type === 'Literal' ? node.source.value : undefined),
    };
  },
};

export const importLint = { rules: { imports } };

/** @param {string} filename */
function packageOfFile(filename) {
  let directory = path.dirname(filename);
  while (!existsSync(path.join(directory, 'package.json'))) directory = path.dirname(directory);
  const manifest = JSON.parse(readFileSync(path.join(directory, 'package.json'), 'utf8'));
  return { directory, name: /** @type {string} */ (manifest.name) };
}

/** @param {string} directory @param {string} filename @param {string} specifier */
function relativeProblem(directory, filename, specifier) {
  const target = path.resolve(path.dirname(filename), specifier);
  return target.startsWith(directory + path.sep) ? undefined : `reaches out of its folder with ${specifier}`;
}
