import { main } from './main.js';

// A reader that has seen enough, such as head, closes the pipe; that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

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
