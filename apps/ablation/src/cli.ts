import { main } from './main.js';

// Whoever prints hears of it where that fails; how far the work is may go unread.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

// A promise that nothing keeps alive would end the process in silence, as if all were well.
const unfinished = (): void => {
  process.stderr.write('foveate: a defect: the process ended before its work; please report it.\n');
  process.exitCode = 1;
};
process.once('beforeExit', unfinished);

void main(process.argv.slice(2)).then((code) => {
  process.off('beforeExit', unfinished);
  process.exitCode = code;
});
