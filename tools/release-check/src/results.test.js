import { expect, it } from 'vitest';
import { resultsTable, withResults } from './results.js';

const readme = `# Foveate

<!-- methods:start -->

| Method | What reaches | Right |
| ------ | ------------ | ----- |
| \`none\` | every token | 90 % |
| [\`a\`](packages/a) | some | 80 % |
| [\`b\`](packages/b) | others | 70 % |
| [\`random\`](packages/c) | any | 60 % |

<!-- methods:end -->
`;
const table = `| Method   | Right |
| -------- | ----- |
| \`none\`   | 90 %  |
| \`b\`      | 70 %  |
| \`random\` | 60 %  |`;

it('shows a method between nothing and chance', () => {
  expect(resultsTable(readme, 'packages/b')).toBe(table);
});

it('misses a method that the table does not name', () => {
  expect(() => resultsTable(readme, 'packages/d')).toThrow('packages/d');
});

it('puts the table between the marks, again and again', () => {
  const marked = 'before\n\n<!-- results:start -->\n\nold\n\n<!-- results:end -->\n\nafter\n';
  const filled = `before\n\n<!-- results:start -->\n\n${table}\n\n<!-- results:end -->\n\nafter\n`;
  expect(withResults(marked, table)).toBe(filled);
  expect(withResults(filled, table)).toBe(filled);
});
