/**
 * The results in the table of methods of the root README, as the READMEs of the methods show them: the method
 * between no reduction at all and a random draw.
 */

/**
 * @param {string} readme of the repository
 * @param {string} folder of a method's package, from the root
 * @returns {string} a Markdown table
 * @throws {Error} where the table has no method in that folder
 */
export function resultsTable(readme, folder) {
  const [, table = ''] = /<!-- methods:start -->\s*(.*?)\s*<!-- methods:end -->/s.exec(readme) ?? [];
  const [head = [], , ...rows] = table.split('\n').map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  const columns = head.map((_, column) => column).filter((column) => !head[column].startsWith('What'));
  const own = rows.filter(([method]) => method?.includes(`(${folder})`));
  if (own.length === 0) throw new Error(`the table of methods in README.md names no method of ${folder}`);
  const shown = rows.filter((row) => own.includes(row) || /`(none|random)`/.test(row[0] ?? ''));
  const cells = [head, ...shown].map((row) =>
    columns.map((column) => row[column].replace(/\[(.*)\]\(.*\)/, '$1')),
  );
  const widths = columns.map((_, index) => Math.max(3, ...cells.map((row) => row[index].length)));
  const [first, ...rest] = [
    ...cells.slice(0, 1),
    widths.map((width) => '-'.repeat(width)),
    ...cells.slice(1),
  ].map((row) => `| ${row.map((cell, index) => cell.padEnd(widths[index])).join(' | ')} |`);
  return [first, ...rest].join('\n');
}

/**
 * A README with a table between its marks `results:start` and `results:end`.
 *
 * @param {string} readme
 * @param {string} table
 * @returns {string}
 */
export function withResults(readme, table) {
  return readme.replace(
    /(<!-- results:start -->\n).*?(\n<!-- results:end -->)/s,
    (_, start, end) => `${start}\n${table}\n${end}`,
  );
}
