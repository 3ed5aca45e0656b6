/** A JSON value whose objects are Maps, so that no key is special and repeated keys cannot hide. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
/** A JSON object. */
export type JsonObject = ReadonlyMap<string, JsonValue>;

/** The text is not JSON, nests too deep, holds too many values, or repeats a key of an object. */
export class JsonSyntaxError extends Error {}

const maxDepth = 16;
/** Values in one text, so that 100 MB of `[],[],…` do not become gigabytes of objects; a header of 300,000 tensors has 3 million. */
const maxValues = 2 ** 22;
const whitespace = /[ \t\n\r]*/y;
const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
/** What stands in a string as it is. JSON forbids raw U+0000 to U+001F there; the pattern begins at the space after them. */
const plain = /[ !#-[\]-\uffff]*/y;

/** Parses JSON as JSON.parse does, but refuses repeated keys (JSON.parse keeps the last), deep nesting and millions of values. */
export function parseJson(text: string): JsonValue {
  const parser = new Parser(text);
  const value = parser.value(0);
  parser.skip();
  if (parser.at !== text.length) throw parser.fail('text after the end');
  return value;
}

class Parser {
  at = 0;
  #values = 0;

  constructor(readonly text: string) {}

  fail(detail: string): JsonSyntaxError {
    return new JsonSyntaxError(`${detail} at character ${this.at}`);
  }

  skip(): void {
    whitespace.lastIndex = this.at;
    whitespace.test(this.text);
    this.at = whitespace.lastIndex;
  }

  value(depth: number): JsonValue {
    if (depth > maxDepth) throw this.fail(`nested more than ${maxDepth} deep`);
    if (++this.#values > maxValues) throw this.fail(`more than ${maxValues} values`);
    this.skip();
    switch (this.text[this.at]) {
      case '{':
        return this.object(depth);
      case '[':
        return this.array(depth);
      case '"':
        return this.string();
      case 't':
        return this.word('true', true);
      case 'f':
        return this.word('false', false);
      case 'n':
        return this.word('null', null);
      default:
        return this.number();
    }
  }

  object(depth: number): JsonObject {
    const entries = new Map<string, JsonValue>();
    this.members('}', () => {
      this.skip();
      const key = this.string();
      if (entries.has(key)) throw this.fail(`the key ${JSON.stringify(key)} occurs twice, the second time`);
      this.skip();
      this.expect(':');
      entries.set(key, this.value(depth + 1));
    });
    return entries;
  }

  array(depth: number): JsonValue[] {
    const values: JsonValue[] = [];
    this.members(']', () => values.push(this.value(depth + 1)));
    return values;
  }

  /** What stands between the brackets, separated by commas. */
  members(close: string, member: () => void): void {
    this.at++;
    this.skip();
    if (this.text[this.at] === close) {
      this.at++;
      return;
    }
    for (;;) {
      member();
      this.skip();
      if (this.text[this.at] === close) break;
      this.expect(',');
    }
    this.at++;
  }

  expect(character: string): void {
    if (this.text[this.at] !== character) throw this.fail(`"${character}" expected`);
    this.at++;
  }

  word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) throw this.fail('a value expected');
    this.at += word.length;
    return value;
  }

  number(): number {
    number.lastIndex = this.at;
    const found = number.exec(this.text)?.[0];
    if (!found) throw this.fail('a value expected');
    this.at += found.length;
    return Number(found);
  }

  string(): string {
    const start = this.at;
    this.expect('"');
    let escaped = false;
    for (;;) {
      plain.lastIndex = this.at;
      plain.test(this.text);
      this.at = plain.lastIndex;
      if (this.text[this.at] === '"') break;
      if (this.text[this.at] !== '\\') throw this.fail('a string is not closed');
      escaped = true;
      this.at += 2;
    }
    this.at++;
    if (!escaped) return this.text.slice(start + 1, this.at - 1);
    try {
      return String(JSON.parse(this.text.slice(start, this.at)));
    } catch {
      this.at = start;
      throw this.fail('a string with a wrong escape');
    }
  }
}
