/** Renders a chat template of a stranger: one that loops or grows without end fails instead. */
import { Environment, Interpreter, Template } from '@huggingface/jinja';

/** Of the source. Published templates have some 20,000. */
const MAX_SOURCE_CHARACTERS = 2 ** 16;
/**
 * Expressions evaluated, elements of lists and every 1024 characters of texts: seconds at the most. A
 * conversation takes some thousands.
 */
const MAX_WORK = 2 ** 19;
const CHARACTERS_PER_WORK = 1024;
const MAX_RANGE = 10_000;

/** What is used of the library's classes, whose own types Node's way of resolving modules does not find. */
interface Scope {
  set(name: string, value: unknown): void;
}
interface Evaluator {
  evaluate(statement: unknown, scope: unknown): { readonly value: unknown };
  run(program: unknown): { readonly value: unknown };
}
const LibraryScope = Environment as new () => Scope;
const LibraryInterpreter = Interpreter as new (scope: Scope) => Evaluator;

/** The library's interpreter, which counts what it does. */
class BoundedInterpreter extends LibraryInterpreter {
  #left = MAX_WORK;

  override evaluate(statement: unknown, scope: unknown): { readonly value: unknown } {
    this.#spend(1);
    const result = super.evaluate(statement, scope);
    this.#spend(workOf(result.value));
    return result;
  }

  #spend(work: number): void {
    this.#left -= work;
    if (this.#left < 0) throw new Error('it loops without end, or for too long');
  }
}

/** A template that ends. */
export class BoundedTemplate {
  readonly #template: Template;

  /** @throws whatever the parser throws; Error on a source that is too long */
  constructor(source: string) {
    if (source.length > MAX_SOURCE_CHARACTERS)
      throw new Error(`it has ${source.length} characters; at most ${MAX_SOURCE_CHARACTERS} are read`);
    this.#template = new Template(source);
  }

  /** @throws whatever the template throws; Error where it does too much */
  render(variables: Readonly<Record<string, unknown>>): string {
    const scope = new LibraryScope();
    for (const [name, value] of [...Object.entries(GLOBALS), ...Object.entries(variables)])
      scope.set(name, value);
    return String(new BoundedInterpreter(scope).run(this.#template.parsed).value);
  }
}

/** What the library gives its templates, with a range that is bounded. */
const GLOBALS = {
  ...{ true: true, True: true, false: false, False: false, none: null, None: null },
  range,
  raise_exception: (message: string) => {
    throw new Error(message);
  },
  strftime_now: (format: string) => new Template('{{ strftime_now(format) }}').render({ format }),
};

function range(...given: number[]): number[] {
  const [start, stop, step = 1] = given.length === 1 ? [0, given[0]] : given;
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new Error(`its range() has more than ${MAX_RANGE} numbers`);
  return Array.from({ length }, (_, index) => start + index * step);
}

function workOf(value: unknown): number {
  if (typeof value === 'string') return value.length / CHARACTERS_PER_WORK;
  if (Array.isArray(value)) return value.length;
  return value instanceof Map ? value.size : 0;
}
