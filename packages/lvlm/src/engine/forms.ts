/**
 * The forms of a model's graphs that are open: each has weights in memory once more, so it is opened late,
 * and closed where they are too many.
 */

/** Sessions of a graph in one form. */
export interface Form {
  /** Bytes of its weights. */
  readonly weightBytes: number;
  release(): Promise<void>;
}

/**
 * Open forms of encoder and decoder alike. When their weights together need more than there is room for,
 * those used longest ago are closed.
 */
export class Forms {
  readonly #room: number;
  /** The one used last at the end. */
  readonly #open = new Map<string, Promise<Form>>();

  /** @param room bytes of weights of all open forms together; the form in use may exceed it */
  constructor(room: number) {
    this.#room = room;
  }

  /**
   * The form of that name.
   * @param weightBytes that it will need
   */
  async get<T extends Form>(name: string, weightBytes: number, open: () => Promise<T>): Promise<T> {
    let form = this.#open.get(name) as Promise<T> | undefined; // a name stands for one kind of form
    if (!form) {
      await this.#makeRoom(weightBytes);
      form = open();
      form.catch(() => this.#open.delete(name));
    }
    this.#open.delete(name);
    this.#open.set(name, form);
    return form;
  }

  async #makeRoom(needed: number): Promise<void> {
    const forms = await Promise.all(
      [...this.#open].map(async ([name, form]) => ({ name, form: await form })),
    );
    let used = forms.reduce((bytes, { form }) => bytes + form.weightBytes, 0);
    for (const { name, form } of forms) {
      if (used + needed <= this.#room) return;
      this.#open.delete(name);
      used -= form.weightBytes;
      await form.release();
    }
  }
}
