/**
 * Shows on stderr how far a run is, and the time that is left of the pass it is in: a bar on a terminal,
 * elsewhere a line for each tenth.
 */
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

const passes = Object.keys(labels);

export function createProgressDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  return stream.isTTY ? barDisplay(stream) : lineDisplay(stream);
}

function barDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  let bar: SingleBar | null = null;
  let shown: SweepProgress['pass'] | null = null;
  return {
    update: ({ pass, done, total }) => {
      if (pass === shown) {
        bar?.setTotal(total);
        bar?.update(done);
        return;
      }
      bar?.stop();
      shown = pass;
      const number = passes.indexOf(pass) + 1;
      bar = new SingleBar({
        stream,
        format: `${labels[pass]} (${number} of ${passes.length})  {bar} {percentage} %  {value} of {total}  {eta_formatted} left`,
        barCompleteChar: '=',
        barIncompleteChar: '-',
        barsize: 20,
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
  let first: { pass: SweepProgress['pass']; done: number; at: number } | null = null;
  return {
    update: ({ pass, done, total }) => {
      if (first?.pass !== pass) first = { pass, done, at: performance.now() };
      const line = `${labels[pass].trim()}: ${Math.floor((done / total) * 10) * 10} %`;
      if (line === shown) return;
      shown = line;
      const stepMs = (performance.now() - first.at) / (done - first.done);
      const left = done > first.done && done < total ? `, ${duration(stepMs * (total - done))} left` : '';
      stream.write(`${line} (${done} of ${total}${left})\n`);
    },
    stop: () => undefined,
  };
}

/** E.g. `12 s`, `3 min`. */
function duration(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
