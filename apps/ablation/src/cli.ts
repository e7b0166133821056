import { main } from './main.js';

// A reader that has seen enough, such as head, closes the pipe; that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

process.exitCode = 1; // until main says otherwise: a promise that nothing keeps alive would end the process in silence
void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
