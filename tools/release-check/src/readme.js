/**
 * What a package's README promises: its first line, how the package is installed, examples and what they
 * print.
 */

/** Methods that are in every comparison and in no paper of their own. */
const withoutPaper = new Set(['@foveate/pooling', '@foveate/baselines']);

/** @param {string} readme @param {string} language @returns {string[]} the code blocks in that language */
export function codeBlocks(readme, language) {
  return [...readme.matchAll(/^```(\w*)\n(.*?)^```/gms)]
    .filter(([, tag]) => tag === language)
    .map(([, , code]) => code);
}

/**
 * What the README's `npm install` commands install, but for the packages that download a binary of
 * TensorFlow.
 *
 * @param {string} readme
 * @returns {string[][]} the names of each command
 */
export function installLines(readme) {
  return codeBlocks(readme, 'sh')
    .flatMap((block) => block.split('\n'))
    .map((line) => line.split(' '))
    .filter(([npm, install]) => npm === 'npm' && install === 'install')
    .map(([, , ...words]) => words.filter((word) => !word.startsWith('-')))
    .filter((names) => !names.some((name) => name.startsWith('@tensorflow/tfjs-node')));
}

/** @param {string} readme @returns {string[]} the command lines `npx ...` of the README */
export function commands(readme) {
  return codeBlocks(readme, 'sh')
    .flatMap((block) => block.split('\n'))
    .filter((line) => line.startsWith('npx '));
}

/**
 * What is wrong with what an example printed: each comment behind a `console.log(...);` says what that line
 * prints, up to a colon and words of explanation.
 *
 * @param {string} example
 * @param {string} output
 * @returns {string[]}
 */
export function outputProblems(example, output) {
  const lines = output.split('\n');
  return [...example.matchAll(/console\.log\(.*\);? \/\/ (.+)$/gm)]
    .map(([, comment]) => comment)
    .filter((comment) => !lines.some((line) => comment === line || comment.startsWith(`${line}: `)))
    .map((comment) => `the example says it prints "${comment}"; it printed:\n${output}`);
}

/**
 * Which parts of a README are missing. Every package opens with what it is in one line, installs in one
 * command and shows an example; where onnxruntime-node is installed, the README says how that goes on closed
 * networks. A method shows its accuracy beside its speed and, where it is of a paper, cites it.
 *
 * @param {object} of
 * @param {string} of.name of the package
 * @param {string} of.readme
 * @param {boolean} of.onnxruntime whether installing it installs onnxruntime-node
 * @param {boolean} of.reducer whether it is a method
 * @param {boolean} of.command whether it is a command, whose examples are command lines
 * @returns {string[]}
 */
export function readmeProblems({ name, readme, onnxruntime, reducer, command }) {
  const [title, , line = ''] = readme.split('\n');
  const paper = /arxiv\.org\/abs\//;
  /** @type {[boolean, string][]} */
  const parts = [
    [title === `# ${name}`, `must open with "# ${name}"`],
    [/^[A-Z`].*[^,]$/.test(line), 'must say what the package is in one line under its title'],
    [installLines(readme)[0]?.[0] === name, `must have "npm install ${name}" as its first command`],
    [command ? commands(readme).length > 0 : codeBlocks(readme, 'js').length > 0, 'has no example'],
    [
      readme.includes('`ONNXRUNTIME_NODE_INSTALL=skip`') === onnxruntime,
      onnxruntime
        ? 'must say when to set `ONNXRUNTIME_NODE_INSTALL=skip`'
        : 'speaks of `ONNXRUNTIME_NODE_INSTALL=skip`, which nothing here needs',
    ],
    [
      !onnxruntime || /Linux.*Windows.*macOS/s.test(readme),
      'must name the platforms that onnxruntime-node has a binary for',
    ],
    [!reducer || readme.includes('## Accuracy beside speed'), 'has no section "Accuracy beside speed"'],
    [!reducer || withoutPaper.has(name) || paper.test(readme), 'does not cite its paper'],
    [/Apache-2\.0/.test(readme), 'does not name its licence'],
  ];
  return parts.filter(([holds]) => !holds).map(([, problem]) => `README.md ${problem}`);
}

/**
 * @param {string} readme of the repository
 * @returns {string[]} the folders of the packages in its table of methods
 */
export function methodFolders(readme) {
  const [, table = ''] = /<!-- methods:start -->(.*)<!-- methods:end -->/s.exec(readme) ?? [];
  return [...new Set([...table.matchAll(/\(packages\/([\w-]+)\)/g)].map(([, folder]) => folder))];
}
