/** Shows on stderr how far a run is: a bar on a terminal, elsewhere a line for each tenth. */
import type { SweepProgress } from '@foveate/eval';
import { SingleBar } from 'cli-progress';

/** Shows progress until it is stopped. */
export interface ProgressDisplay {
  update(progress: SweepProgress): void;
  /** Also after the last pass, and before anything else is written. */
  stop(): void;
}

const labels: Readonly<Record<SweepProgress['pass'], string>> = {
  answers: 'answers',
  latency: 'latency',
  memory: 'memory ',
};

export function createProgressDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  return stream.isTTY ? barDisplay(stream) : lineDisplay(stream);
}

function barDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  let bar: SingleBar | null = null;
  let shown: SweepProgress['pass'] | null = null;
  return {
    update: ({ pass, done, total }) => {
      if (pass === shown) {
        bar?.update(done);
        return;
      }
      bar?.stop();
      shown = pass;
      bar = new SingleBar({
        stream,
        format: `${labels[pass]}  {bar} {percentage} %  {value} of {total}  {eta_formatted} left`,
        barCompleteChar: '=',
        barIncompleteChar: '-',
        barsize: 30,
        etaBuffer: 100,
        hideCursor: true,
      });
      bar.start(total, done);
    },
    stop: () => {
      bar?.stop();
      bar = null;
    },
  };
}

function lineDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  let shown = '';
  return {
    update: ({ pass, done, total }) => {
      const line = `${labels[pass].trim()}: ${Math.floor((done / total) * 10) * 10} %`;
      if (line === shown) return;
      shown = line;
      stream.write(`${line} (${done} of ${total})\n`);
    },
    stop: () => undefined,
  };
}
