import { ModelFormatError } from '../errors.js';

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Typed access to an object of JSON; errors name the file and the key. */
export class JsonReader {
  constructor(
    readonly where: string,
    readonly object: JsonObject,
  ) {}

  optional(key: string): number | undefined {
    const value = this.object[key];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'number') throw this.#wrong(key, 'a number');
    return value;
  }

  number(key: string): number {
    const value = this.optional(key);
    if (value === undefined) throw new ModelFormatError(`${this.where}: there is no "${key}"`);
    return value;
  }

  text(key: string): string | undefined {
    const value = this.object[key];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'string') throw this.#wrong(key, 'a string');
    return value;
  }

  flag(key: string): boolean | undefined {
    const value = this.object[key];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'boolean') throw this.#wrong(key, 'true or false');
    return value;
  }

  texts(key: string): readonly string[] | undefined {
    const value = this.object[key];
    if (value === undefined || value === null) return undefined;
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) throw this.#wrong(key, 'a list of strings');
    return value as readonly string[];
  }

  child(key: string): JsonReader | undefined {
    const value = this.object[key];
    if (value === undefined || value === null) return undefined;
    if (!isObject(value)) throw this.#wrong(key, 'an object');
    return new JsonReader(`${this.where} ${key}`, value);
  }

  #wrong(key: string, expected: string): ModelFormatError {
    return new ModelFormatError(`${this.where}: "${key}" should be ${expected}, it is ${JSON.stringify(this.object[key])}`);
  }
}
