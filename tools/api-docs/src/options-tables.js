import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import prettier from 'prettier';
import ts from 'typescript';

/** Characters of a type that is still written in full. */
const LONGEST_TYPE = 100;

/**
 * Writes the options tables of a README anew. A table stands between `<!-- options: NAME -->` and `<!--
 * options end -->`. NAME is an exported interface, whose properties and docstrings make the rows; or the name
 * of a method, whose declared options do.
 *
 * @param {string} folder of the package, with its README.md and src/
 * @param {readonly import('@foveate/core/registry').ReducerEntry[]} [methods] the entries of methods that the
 * package exports
 * @returns {Promise<{ before: string, after: string }>} the README as it is, and as it should be
 * @throws {Error} where an interface or a docstring is missing, or the table of a method that has options
 */
export async function updateReadme(folder, methods = []) {
  const file = path.join(folder, 'README.md');
  const before = readFileSync(file, 'utf8');
  const sources = readSources(folder);
  const inReadme = [...before.matchAll(/<!-- options: ([\w-]+) -->/g)].map(([, name]) => name);
  const tables = new Map(methods.map((method) => [method.name, methodTable(method)]));
  for (const { name, options } of methods) {
    if (options.length > 0 && !inReadme.includes(name))
      throw new Error(`${file} has no <!-- options: ${name} -->`);
  }
  const text = before.replace(
    /(<!-- options: ([\w-]+) -->).*?(<!-- options end -->)/gs,
    (_, start, name, end) => `${start}\n\n${tables.get(name) ?? optionsTable(sources, name)}\n\n${end}`,
  );
  const style = await prettier.resolveConfig(file);
  return { before, after: await prettier.format(text, { ...style, filepath: file }) };
}

/**
 * The entries of methods among what a package exports.
 *
 * @param {Readonly<Record<string, unknown>>} exported
 * @returns {import('@foveate/core/registry').ReducerEntry[]}
 */
export function methodsOf(exported) {
  return Object.entries(exported)
    .filter(([name]) => name.endsWith('Entry'))
    .map(([, entry]) => /** @type {import('@foveate/core/registry').ReducerEntry} */ (entry));
}

/** @param {import('@foveate/core/registry').ReducerEntry} method */
function methodTable({ options }) {
  const code = (/** @type {string} */ text) => (text === '' ? '' : `\`${text}\``);
  return table(
    ['option', 'in text', 'values', 'default', 'what it does'],
    options.map((each) => [
      code(each.option),
      code(each.name),
      code(each.values),
      code(each.default),
      `${each.description[0].toUpperCase()}${each.description.slice(1)}.`,
    ]),
  );
}

/** @param {readonly string[]} head @param {readonly (readonly string[])[]} rows */
function table(head, rows) {
  return [head, head.map(() => '-'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');
}

/**
 * The sources of a package and of what it may name in its options.
 *
 * @param {string} folder
 */
function readSources(folder) {
  const folders = [folder, path.resolve(folder, '../core')];
  return [...new Set(folders.map((each) => path.resolve(each)))].flatMap((each) =>
    readdirSync(path.join(each, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
      .map((name) => path.join(each, 'src', name))
      .map((file) => ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true)),
  );
}

/** @param {readonly ts.SourceFile[]} sources @param {string} name */
function optionsTable(sources, name) {
  const declaration = find(sources, name);
  if (!declaration || !ts.isInterfaceDeclaration(declaration)) throw new Error(`No interface is ${name}`);
  const rows = declaration.members.filter(ts.isPropertySignature).map((member) => {
    const option = member.name.getText();
    const doc = describe(member, `${name}.${option}`);
    return [`\`${option}\``, `\`${typeText(member.type, sources)}\``, doc.default, doc.meaning];
  });
  return table(['option', 'type', 'default', 'what it does'], rows);
}

/**
 * The docstring of an option without, and only, its sentence "Default ...".
 *
 * @param {ts.PropertySignature} member @param {string} name
 */
function describe(member, name) {
  const [doc] = ts.getJSDocCommentsAndTags(member);
  const text = ts.getTextOfJSDocComment(/** @type {ts.JSDoc | undefined} */ (doc)?.comment);
  if (!text) throw new Error(`${name} has no docstring`);
  const line = text.replace(/\s+/g, ' ').replace(/\{@link (\w+)\}/g, '`$1`');
  const sentence = line.match(/\s*\bDefault:? (.+?)\.(?=\s|$)/);
  if (sentence === null) return { default: '', meaning: line };
  return { default: sentence[1], meaning: line.replace(sentence[0], '').trim() };
}

/**
 * A type as its users write it: short aliases and interfaces of the sources in full, everything else by its
 * name.
 *
 * @param {ts.TypeNode | undefined} type
 * @param {readonly ts.SourceFile[]} sources
 * @returns {string}
 */
function typeText(type, sources) {
  if (type === undefined) return 'any';
  if (ts.isUnionTypeNode(type)) return type.types.map((each) => typeText(each, sources)).join(' | ');
  const declaration = ts.isTypeReferenceNode(type) ? find(sources, type.typeName.getText()) : undefined;
  const byName = type.getText().replace(/\breadonly /g, '');
  if (!declaration || hasMethods(declaration)) return byName;
  const full = ts.isTypeAliasDeclaration(declaration)
    ? typeText(declaration.type, sources)
    : membersText(declaration, sources);
  return full.length <= LONGEST_TYPE ? full : byName;
}

/** @param {ts.InterfaceDeclaration | ts.TypeAliasDeclaration} declaration */
function hasMethods(declaration) {
  return ts.isInterfaceDeclaration(declaration) && !declaration.members.every(ts.isPropertySignature);
}

/** @param {ts.InterfaceDeclaration} declaration @param {readonly ts.SourceFile[]} sources */
function membersText({ members }, sources) {
  const properties = members.filter(ts.isPropertySignature);
  return `{ ${properties.map((each) => `${each.name.getText()}: ${typeText(each.type, sources)}`).join('; ')} }`;
}

/**
 * @param {readonly ts.SourceFile[]} sources @param {string} name
 * @returns {ts.InterfaceDeclaration | ts.TypeAliasDeclaration | undefined}
 */
function find(sources, name) {
  for (const statement of sources.flatMap((source) => [...source.statements])) {
    const declares = ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement);
    if (declares && statement.name.text === name) return statement;
  }
  return undefined;
}
