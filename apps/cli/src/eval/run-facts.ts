import { generatorVersion, tokenizerHash, type RunFacts } from '@filigree/evaluation';
import type { Model } from '@filigree/transformer';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { basename } from 'node:path';

export interface RunSetting extends Pick<RunFacts, 'seed' | 'queries' | 'questions' | 'format'> {
  readonly path: string;
  /** Name and content of the text of perplexity. */
  readonly text: { readonly name: string; readonly content: string } | undefined;
}

/** What is written into every record. */
export async function runFacts(model: Model, { path, text, ...setting }: RunSetting, signal: AbortSignal): Promise<RunFacts> {
  const { kind, capabilities } = model.backend;
  return {
    model: basename(path),
    modelHash: await fileHash(path, signal),
    tokenizerHash: await tokenizerHash(model.tokenizer),
    generatorVersion,
    ...setting,
    backend: kind,
    threads: capabilities.threads,
    device: capabilities.device,
    machine: machineName(),
    text: text ? `${text.name} ${createHash('sha256').update(text.content).digest('hex')}` : '',
  };
}

function machineName(): string {
  const [first] = cpus();
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return `${process.platform}-${process.arch}, ${first?.model.trim() ?? 'unknown processor'}, ${cpus().length} CPUs, ${memory}, Node ${process.versions.node}`;
}

/** SHA-256 of a file, which may be larger than the memory. */
async function fileHash(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>)
    hash.update(chunk);
  return hash.digest('hex');
}
