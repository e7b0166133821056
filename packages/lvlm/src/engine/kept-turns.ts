/** What the engine keeps of a chat between two turns: tokens with their keys and values, up to some bytes. */
import type { CropOutcome, Outcome } from './api.js';
import type { ReadImage } from './vision.js';
import type { Past } from './sequence.js';

/** An image as the prompt has it. */
export interface PlacedImage {
  /** Token ids of what is written for it. */
  readonly written: readonly number[];
  readonly crops: readonly CropOutcome[];
  /** Tokens of the prompt that it takes. */
  readonly length: number;
  /** Positions that it takes. */
  readonly positions: number;
  /** Of each of its visual tokens the crop, and the number among the crop's tokens that are left. */
  readonly origins: readonly { readonly crop: number; readonly token: number }[];
}

/** A turn that was answered. */
export interface KeptTurn {
  /** Token ids that were run, one for each image: the prompt's and the answer's. */
  readonly ids: readonly number[];
  readonly images: readonly PlacedImage[];
  /** How many of the ids the plans inside the language model were made on; 0 without such plans. */
  readonly decidedOn: number;
  readonly languagePlans: Outcome['languagePlans'];
  readonly past: Past;
}

/** What there is of an image in the prompt, its rows' values left out. */
export function placed({ written, crops, rows, positions }: ReadImage): PlacedImage {
  return {
    written,
    crops,
    length: rows.length,
    positions: positions?.end ?? rows.length,
    origins: rows.flatMap(({ origin }) => origin ?? []),
  };
}

/** Kept turns by their numbers. Where they hold too many bytes, those used longest ago are forgotten. */
export class KeptTurns {
  readonly #room: number;
  /** The one used last at the end. */
  readonly #turns = new Map<number, KeptTurn>();

  /** @param room bytes of keys and values of all turns together */
  constructor(room: number) {
    this.#room = room;
  }

  /** The turn, unless it was forgotten. */
  find(id: number): KeptTurn | null {
    const turn = this.#turns.get(id);
    if (!turn) return null;
    this.#turns.delete(id);
    this.#turns.set(id, turn);
    return turn;
  }

  /** Keeps a turn, where it has room at all. */
  keep(id: number, turn: KeptTurn): void {
    if (heldBytes(turn) > this.#room) return; // nor are others forgotten for it
    this.#turns.set(id, turn);
    let held = [...this.#turns.values()].reduce((sum, kept) => sum + heldBytes(kept), 0);
    for (const [oldest, kept] of this.#turns) {
      if (held <= this.#room) return;
      this.#turns.delete(oldest);
      held -= heldBytes(kept);
    }
  }

  forget(id: number): void {
    this.#turns.delete(id);
  }
}

function heldBytes({ past }: KeptTurn): number {
  return past.caches.reduce((sum, cache) => sum + cache.heldBytes, 0);
}
