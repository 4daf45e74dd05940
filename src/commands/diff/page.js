'use strict';
const filter = document.getElementById('filter');
const rows = [...document.querySelectorAll('tbody tr')];
const names = rows.map((row) => row.cells[0].textContent.toLowerCase());
filter.addEventListener('input', () => {
  const term = filter.value.toLowerCase();
  rows.forEach((row, at) => { row.hidden = !names[at].includes(term); });
});
