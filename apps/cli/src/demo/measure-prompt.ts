import { argMax, type Tensor } from '@filigree/core-tensor';
import { phaseAttention, type AttentionChoice, type Model, type Session } from '@filigree/transformer';
import { speech } from '../package-files.js';
import { encodeLogits, type PromptRun } from './prompt-run.js';

/** Tokens of the demo's prompt. */
export const promptLength = 3000;
/** Tokens decoded after it. */
const decodeLength = 64;

/** The first tokens of the {@link speech}. */
export function demoPrompt(model: Model): number[] {
  return model.tokenize(speech()).slice(0, promptLength);
}

/** Reads the prompt densely or by a method, goes on greedily and densely for some tokens, and says what that took. */
export async function measurePrompt(
  model: Model,
  method: AttentionChoice | undefined,
  signal: AbortSignal,
): Promise<PromptRun> {
  const prompt = demoPrompt(model);
  const attention = phaseAttention({ prefill: method }, 'prefill', model.config, '--prefill-attention');
  // Weights are put into their execution layout when they first run, which belongs to loading and not to the first token.
  await withSession(model, 32, signal, async (session) => {
    const logits = await session.prefill(prompt.slice(0, 16), { logits: 'last' });
    await decode(session, logits, 2, signal);
  });
  return withSession(model, prompt.length + decodeLength, signal, async (session) => {
    const started = performance.now();
    const logits = await session.prefill(prompt, { logits: 'last', attention });
    const values = (await logits.read()) as Float32Array;
    const firstTokenMs = performance.now() - started;
    await session.meter.read();
    const { density } = session.meter;
    const decodeStarted = performance.now();
    await decode(session, logits, decodeLength, signal);
    return {
      promptTokens: prompt.length,
      firstTokenMs,
      decodeTokens: decodeLength,
      decodeMs: performance.now() - decodeStarted,
      density,
      kvBytes: session.cache.bytes().total,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      logits: encodeLogits(values),
    };
  });
}

async function withSession<T>(
  model: Model,
  capacity: number,
  signal: AbortSignal,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  const session = model.session(capacity, signal);
  try {
    return await use(session);
  } finally {
    session.dispose();
  }
}

/** Decodes `count` tokens as `generate` does: the next step starts on the device while the host waits for the token before it. */
async function decode(session: Session, first: Tensor, count: number, signal: AbortSignal): Promise<void> {
  let logits = first;
  for (let step = 0; step < count; step++) {
    signal.throwIfAborted();
    const token = argMax(logits);
    logits.dispose();
    // Asked for before the next step is queued: reads come in the order of the queue.
    const id = token.read();
    const next = session.step(token, { logits: 'last' });
    await id;
    token.dispose();
    if (!next) return;
    logits = next;
  }
  await logits.read();
  logits.dispose();
}
