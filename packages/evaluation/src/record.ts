import { OptionError } from '@filigree/core-tensor';
import type { HeadPlan, MethodOptions } from '@filigree/sparse-attention';
import type { KvMethodChoice } from '@filigree/transformer';
import type { Task } from './task.js';

/** A plan of the heads for a method of the cache. */
export type KvPlan = NonNullable<KvMethodChoice['plan']>;

/** Version of the lines that records are kept in. */
export const recordVersion = 1;

/** What the numbers of a run depend on beside what is evaluated: two records are of one run only if all of it is the same. */
export interface RunFacts {
  readonly model: string;
  /** SHA-256 of the model's file. */
  readonly modelHash: string;
  readonly tokenizerHash: string;
  readonly generatorVersion: number;
  readonly format: string;
  readonly seed: number;
  readonly queries: number;
  /** How questions are read: by the method, as the end of the prompt, or dense. */
  readonly questions: 'method' | 'dense';
  readonly backend: string;
  readonly threads: number;
  /** CPU path or GPU. */
  readonly device: string;
  readonly machine: string;
  /** Name and SHA-256 of the text of perplexity; empty without one. */
  readonly text: string;
}

/** A method as it was run. */
export interface MethodRun {
  readonly id: string;
  readonly options: MethodOptions;
  /** Instead of a method of the catalogue, a method for every head: id and options only name it. Not part of a record. */
  readonly plan?: HeadPlan | undefined;
  /** What a method of the cache goes by; options name it. Not part of a record. */
  readonly kvPlan?: KvPlan | undefined;
}

/** What one question of a sample gave. */
export interface AnswerRecord {
  /** Middle of the evidence in the context, 0 … 1; null where it is all of it. */
  readonly depth: number | null;
  /** Whether all forced tokens were the most likely ones, and the share that was. */
  readonly exact: number;
  readonly tokens: number;
  /** Mean natural log-probability of the forced tokens, and their number. */
  readonly logProb: number;
  readonly forced: number;
  readonly ranked: number | null;
  readonly generated: number | null;
  /** The generated text. */
  readonly output: string | null;
}

/** One context read by one method, and every question asked about it. */
export interface EvaluationRecord extends RunFacts {
  readonly version: typeof recordVersion;
  readonly task: string;
  readonly method: MethodRun;
  /** Tokens that were asked for, and those of the context. */
  readonly length: number;
  readonly contextTokens: number;
  readonly sample: number;
  readonly answers: readonly AnswerRecord[];
  readonly density: number;
  /** Of the context's keys and values, in whole pages; absent from records that were made before it was counted. */
  readonly kvBytes?: number | undefined;
  readonly prefillSeconds: number;
  /** All questions with their forced answers. */
  readonly questionSeconds: number;
  /** Of a decode step; null where it was not measured. */
  readonly decodeSeconds: number | null;
}

/** Where records are kept. The command line appends to a file; {@link memoryLog} keeps them until the program ends. */
export interface RecordLog {
  readonly records: readonly EvaluationRecord[];
  /** Resolves when the record will be there after an interruption. */
  append(record: EvaluationRecord): Promise<void>;
}

export function memoryLog(records: readonly EvaluationRecord[] = []): RecordLog {
  const all = [...records];
  return {
    records: all,
    append: (record) => {
      all.push(record);
      return Promise.resolve();
    },
  };
}

export const denseRun: MethodRun = /* @__PURE__ */ Object.freeze({ id: 'dense', options: /* @__PURE__ */ Object.freeze({}) });

/** `id` or `id:option=value,…`, options in the order of their names. */
export function methodLabel({ id, options }: MethodRun): string {
  const list = Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1));
  return list.length === 0 ? id : `${id}:${list.map(([name, value]) => `${name}=${value}`).join(',')}`;
}

/** What the same context read again would be: such a record is not made twice. */
export function recordKey(record: RunFacts & Pick<EvaluationRecord, 'task' | 'method' | 'length' | 'sample'>): string {
  const { modelHash, tokenizerHash, format, seed, queries, questions, backend, threads, device, machine } = record;
  return JSON.stringify([
    ...[record.generatorVersion, modelHash, tokenizerHash, format, seed, queries, questions, record.text],
    ...[backend, threads, device, machine, record.task, methodLabel(record.method), record.length, record.sample],
  ]);
}

/** The number that a task is judged by; for bits, less is better. */
export function scoreOf({ reading }: Pick<Task, 'reading'>, answer: AnswerRecord): number {
  switch (reading) {
    case 'forced':
      return answer.exact;
    case 'tokens':
      return answer.tokens;
    case 'generated':
      return answer.generated ?? 0;
    case 'ranked':
      return answer.ranked ?? 0;
    case 'bits':
      return -answer.logProb / Math.LN2;
  }
}

/** A line of the file that records are kept in. */
export function formatRecord(record: EvaluationRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** What a file of records holds. */
export interface ParsedRecords {
  readonly records: EvaluationRecord[];
  /** Characters of whole lines: what comes behind is the beginning of a line whose writing was interrupted. */
  readonly wholeCharacters: number;
}

/**
 * Reads lines of records. The last line is dropped when it does not end, as writing it was interrupted.
 * @throws OptionError naming another line that is no record.
 */
export function parseRecords(text: string): ParsedRecords {
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  const lines = whole.split('\n').slice(0, -1);
  const records = lines.map((line, index) => parseRecord(line, index + 1));
  return { records, wholeCharacters: whole.length };
}

function parseRecord(line: string, number: number): EvaluationRecord {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new OptionError(`records: line ${number} is no JSON`, { cause });
  }
  if (!isRecord(value))
    throw new OptionError(`records: line ${number} is no record of version ${recordVersion}; name another folder`);
  return value;
}

function isRecord(value: unknown): value is EvaluationRecord {
  return (
    typeof value === 'object' &&
    value !== null &&
    'version' in value &&
    value.version === recordVersion &&
    'task' in value &&
    'answers' in value &&
    Array.isArray(value.answers)
  );
}
