import { Environment, Interpreter, type Template } from '@huggingface/jinja';

type Statement = Parameters<Interpreter['evaluate']>[0];
type Value = ReturnType<Interpreter['evaluate']>;

/** Work that a rendering may do, in expressions looked at and their like; a conversation of a thousand messages takes some ten thousands. */
const mostWork = 3_000_000;
/** UTF-16 units of one text, and numbers of one `range`. */
const longestText = 1 << 24;
const longestRange = 10_000;
/** Work of one round of a loop, whatever is in it. */
const workOfRound = 32;

/**
 * Renders a template that may come from anybody's file: loops, texts and ranges that would take minutes or all memory end with an error
 * instead.
 *
 * @param variables the template's; they come before functions of the same name
 */
export function renderTemplate({ parsed }: Template, variables: Readonly<Record<string, unknown>>): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...globals, ...variables })) environment.set(name, value);
  const { value } = new BoundedInterpreter(environment).run(parsed);
  return String(value);
}

class BoundedInterpreter extends Interpreter {
  #work = 0;
  /** Expressions that loops run over. */
  readonly #iterables = new Set<unknown>();

  override evaluate(statement: Statement, environment: Environment): Value {
    this.#spend(1);
    if (statement?.type === 'For') this.#iterables.add(iterableOf(statement));
    const result = super.evaluate(statement, environment);
    const value: unknown = result.value;
    if (typeof value === 'string') {
      if (value.length > longestText) throw new Error(`it makes a text of more than ${longestText} characters`);
      this.#spend(value.length >> 8);
    } else if (Array.isArray(value)) {
      this.#spend(this.#iterables.has(statement) ? workOfRound * value.length : value.length >> 3);
    }
    return result;
  }

  #spend(work: number): void {
    this.#work += work;
    if (this.#work > mostWork) throw new Error('it does not come to an end within the work that a rendering may do');
  }
}

/** `for … in iterable`, `for … in iterable if test`. */
function iterableOf(loop: object): unknown {
  const iterable: unknown = 'iterable' in loop ? loop.iterable : undefined;
  return typeof iterable === 'object' && iterable !== null && 'lhs' in iterable && 'test' in iterable ? iterable.lhs : iterable;
}

/** What templates may call. */
const globals: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  range,
  strftime_now: (format: unknown) => formatTime(String(format), new Date()),
  raise_exception(message: unknown) {
    throw new Error(String(message));
  },
};

function range(...limits: readonly unknown[]): number[] {
  const [start, stop, step = 1] = limits.length > 1 ? limits : [0, limits[0]];
  if (!Number.isInteger(start) || !Number.isInteger(stop) || !Number.isInteger(step) || step === 0)
    throw new Error(`range() takes integers and a step that is not 0, got ${limits.map(String).join(', ')}`);
  const length = Math.max(0, Math.ceil((Number(stop) - Number(start)) / Number(step)));
  if (length > longestRange) throw new Error(`range() of ${length} numbers; the most is ${longestRange}`);
  return Array.from({ length }, (_, index) => Number(start) + index * Number(step));
}

/** The part of Python's `strftime` that templates use to tell a model the date; names are English, as in what it was trained on. */
function formatTime(format: string, date: Date): string {
  const name = (options: Intl.DateTimeFormatOptions): string => date.toLocaleString('en-US', options);
  const two = (value: number): string => String(value).padStart(2, '0');
  const fields: Readonly<Record<string, string>> = {
    '%Y': String(date.getFullYear()),
    '%m': two(date.getMonth() + 1),
    '%d': two(date.getDate()),
    '%H': two(date.getHours()),
    '%M': two(date.getMinutes()),
    '%S': two(date.getSeconds()),
    '%B': name({ month: 'long' }),
    '%b': name({ month: 'short' }),
    '%A': name({ weekday: 'long' }),
    '%a': name({ weekday: 'short' }),
    '%%': '%',
  };
  return format.replaceAll(/%./gu, (field) => fields[field] ?? field);
}
