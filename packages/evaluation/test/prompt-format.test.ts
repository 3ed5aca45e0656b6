import { tinyModel } from '@filigree/testing';
import { createReferenceBackend } from '@filigree/core-tensor';
import { loadModel } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chatFormat, modelSubject, plainFormat, type PromptFormat } from '../src/index.js';

const backend = createReferenceBackend();
let model: Awaited<ReturnType<typeof loadModel>>;

beforeAll(async () => {
  model = await loadModel(new Blob([(await tinyModel()) as Uint8Array<ArrayBuffer>]), { backend });
});

afterAll(() => {
  model.dispose();
  backend.dispose();
});

const formats = (): PromptFormat[] => {
  const { tokenizer, chatTemplate } = model;
  if (!chatTemplate) throw new Error('the tiny model has a template');
  return [plainFormat(tokenizer), chatFormat(tokenizer, chatTemplate)];
};

describe('prompts', () => {
  it('continue one context and end with the beginning of the answer', () => {
    const questions = [
      { question: 'Which one?', lead: 'It is' },
      { question: 'Where is it?', lead: 'There, at' },
    ];
    for (const format of formats()) {
      const { context, prompts } = format.encode({ context: 'A text with facts.', questions });
      for (const [index, prompt] of prompts.entries()) {
        const text = model.detokenize([...context, ...prompt], { special: true });
        expect(text).toContain('A text with facts.');
        expect(text).toContain(questions[index].question);
        expect(text.endsWith(questions[index].lead)).toBe(true);
      }
      expect(model.detokenize(context, { special: true })).toContain('A text with facts.');
    }
  });

  it('are followed by answers whose tokens are those of the text', () => {
    for (const format of formats()) expect(model.detokenize(format.answer('It is', '4711'))).toBe(' 4711');
  });
});

describe('a model as the subject', () => {
  const tokens = Array.from({ length: 40 }, (_, index) => 5 + ((index * 7) % 50));
  const [context, prompt, answer] = [tokens.slice(0, 30), tokens.slice(30, 34), tokens.slice(34)];

  it('forces answers with the probabilities of a run over all tokens', async () => {
    const logits = await model.logits(tokens);
    const data = (await logits.read()) as Float32Array;
    const size = logits.shape[1];
    logits.dispose();
    const expected = answer.map((token, index) => {
      const row = data.subarray((33 + index) * size, (34 + index) * size);
      const largest = Math.max(...row);
      return row[token] - largest - Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
    });
    const read = await modelSubject(model).prefill(context, { attention: {}, room: 64 });
    const asked = await read.ask(prompt, {});
    for (const phase of ['prefill', 'decode'] as const) {
      const { logProbs, top } = await asked.force(answer, phase);
      expect(top.length).toBe(answer.length);
      for (const [index, logProb] of logProbs.entries()) expect(logProb).toBeCloseTo(expected[index], 2);
    }
    asked.dispose();
    read.dispose();
  });

  it('gives all memory back', async () => {
    const before = backend.memory().liveBytes;
    const read = await modelSubject(model).prefill(context, { attention: {}, room: 64 });
    const asked = await read.ask(prompt, {});
    await asked.force(answer, 'decode');
    const made = await read.generate(prompt, { attention: {}, limit: 4, ignoreEnd: true });
    expect(made.decodeTokens).toBe(3);
    asked.dispose();
    read.dispose();
    await backend.sync();
    expect(backend.memory().liveBytes).toBe(before);
  });
});
