import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import prettier from 'prettier';
import ts from 'typescript';

/** Characters of a type that is still written in full. */
const LONGEST_TYPE = 100;

/**
 * Writes the options tables of a README anew. A table stands between `<!-- options: NAME -->` and `<!-- options end -->`,
 * NAME being an exported interface; its rows come from the interface's properties and their docstrings.
 *
 * @param {string} folder of the package, with its README.md and src/
 * @returns {Promise<{ before: string, after: string }>} the README as it is, and as it should be
 * @throws {Error} where an interface or a docstring is missing, or a docstring states another default than the code has
 */
export async function updateReadme(folder) {
  const file = path.join(folder, 'README.md');
  const before = readFileSync(file, 'utf8');
  const sources = readSources(folder);
  const inReadme = [...before.matchAll(/<!-- options: (\w+) -->/g)].map(([, name]) => name);
  for (const name of reducerOptions(sources)) {
    if (!inReadme.includes(name)) throw new Error(`${file} has no <!-- options: ${name} -->`);
  }
  const text = before.replace(
    /(<!-- options: (\w+) -->).*?(<!-- options end -->)/gs,
    (_, start, name, end) => `${start}\n\n${optionsTable(sources, name)}\n\n${end}`,
  );
  const style = await prettier.resolveConfig(file);
  return { before, after: await prettier.format(text, { ...style, filepath: file }) };
}

/**
 * The sources of a package and of what it may name in its options.
 *
 * @param {string} folder
 */
function readSources(folder) {
  const folders = [folder, path.resolve(folder, '../core'), path.resolve(folder, '../fopru-significance')];
  return [...new Set(folders.map((each) => path.resolve(each)))].flatMap((each) =>
    readdirSync(path.join(each, 'src'))
      .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
      .map((name) => path.join(each, 'src', name))
      .map((file) => ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true)),
  );
}

/**
 * The options that a constant beside them gives defaults: `const xDefaults: Required<XOptions>`.
 *
 * @param {readonly ts.SourceFile[]} sources
 */
function reducerOptions(sources) {
  return [...defaultsByInterface(sources).keys()];
}

/**
 * @param {readonly ts.SourceFile[]} sources
 * @returns {Map<string, Map<string, string>>} interface -> option -> its default, as it is written
 */
function defaultsByInterface(sources) {
  const constants = sources
    .flatMap((source) => source.statements.filter(ts.isVariableStatement))
    .flatMap((statement) => statement.declarationList.declarations);
  const found = new Map();
  for (const { type, initializer } of constants) {
    const name = type?.getText().match(/^Required<(\w+)>$/)?.[1];
    if (name === undefined || !initializer || !ts.isObjectLiteralExpression(initializer)) continue;
    const properties = initializer.properties.filter(ts.isPropertyAssignment);
    found.set(name, new Map(properties.map((each) => [each.name.getText(), each.initializer.getText()])));
  }
  return found;
}

/** @param {readonly ts.SourceFile[]} sources @param {string} name */
function optionsTable(sources, name) {
  const declaration = find(sources, name);
  if (!declaration || !ts.isInterfaceDeclaration(declaration)) throw new Error(`No interface is ${name}`);
  const defaults = defaultsByInterface(sources).get(name);
  const rows = declaration.members.filter(ts.isPropertySignature).map((member) => {
    const option = member.name.getText();
    const doc = describe(member, `${name}.${option}`);
    const code = defaults?.get(option);
    const documented = doc.default.replaceAll('`', '');
    if (code !== undefined && documented !== code && !documented.startsWith(`${code},`)) {
      throw new Error(`${name}.${option} is ${code} by default; its docstring says "${doc.default}"`);
    }
    const byDefault = code === undefined ? doc.default : `\`${code}\`` + documented.slice(code.length);
    return [`\`${option}\``, `\`${typeText(member.type, sources)}\``, byDefault, doc.meaning];
  });
  const lines = [['option', 'type', 'default', 'what it does'], ['-', '-', '-', '-'], ...rows];
  return lines
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');
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
 * A type as its users write it: short aliases and interfaces of the sources in full, everything else by its name.
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
