/* global document */
// Sorts the tables marked with data-sortable: each column's head becomes a button. Without this script they are plain tables.
for (const table of document.querySelectorAll('table[data-sortable]')) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const original = [...body.rows];

  const valueOf = (row, column) => {
    const { textContent, dataset } = row.cells[column];
    return dataset.value === undefined ? textContent.trim() : Number(dataset.value);
  };
  // A cell without a number, such as "-", comes last either way.
  const compare = (a, b, direction) => {
    if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
    return direction * (typeof a === 'number' ? a - b : a.localeCompare(b, 'en', { numeric: true }));
  };

  for (const [column, head] of heads.entries()) {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const ascending = head.getAttribute('aria-sort') !== 'ascending';
      for (const other of heads) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
      const direction = ascending ? 1 : -1;
      const sorted = [...original].sort((a, b) => compare(valueOf(a, column), valueOf(b, column), direction));
      body.append(...sorted);
    });
  }
}
