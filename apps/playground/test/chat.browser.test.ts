import { lowerMask, streaming } from '@filigree/sparse-attention';
import { tinyModel } from '@filigree/testing';
import { expect, it } from 'vitest';
import { formatShare } from '../src/format.js';
import { expectedAnswer } from './support/expected-answer.js';
import { answer, ask, desktop, figure, phone, shoot } from './support/page.js';
import { withPlayground } from './support/with-playground.js';

const question = 'the user was in it';
/** Several blocks of queries, so that a window leaves something out. */
const long = Array.from({ length: 8 }, (_, index) => `${index}: ${question}.`).join(' ');

/** Cells of n causal queries. */
const triangle = (n: number): number => (n * (n + 1)) / 2;

it('loads a model from an address once, and answers with the tokens of the reference: greedy, sampled and sparse', async () => {
  const model = await tinyModel({ seed: 5 });
  const greedy = await expectedAnswer(model, question, { maxTokens: 12 });
  expect(greedy.tokens.length).toBeGreaterThanOrEqual(8);
  const sampling = { temperature: 4, topK: 20, topP: 1, seed: 11 };
  const sampled = await expectedAnswer(model, question, { maxTokens: 12, sampling });
  expect(new Set(sampled.tokens).size).toBeGreaterThanOrEqual(4);
  const options = { sinks: 1, window: 4, lastRows: 0 };
  const maskDensity = lowerMask(streaming(options)({ batch: 1, heads: 1, lenQ: [87], lenK: [87] })).stats.density;
  const attention = { prefill: { method: 'streaming-llm', options } };
  const sparse = await expectedAnswer(model, long, { maxTokens: 12, sampling, attention });

  await withPlayground({ '/tiny.gguf': model }, async (page) => {
    let requests = 0;
    page.on('request', (request) => {
      if (request.url().endsWith('/tiny.gguf')) requests++;
    });
    const load = async (): Promise<void> => {
      await page.getByLabel('Address of a GGUF file').fill(new URL('/tiny.gguf', page.url()).href);
      await page.getByRole('button', { name: 'Load' }).click();
      await page.getByLabel('Message').waitFor();
    };

    await page.setViewportSize(desktop);
    await page.getByText(/WebGPU on .+ · f16 (yes|no) · subgroups (yes|no)/).waitFor();
    expect(await page.getByLabel('Address of a GGUF file').inputValue()).toMatch(/^https:.*SmolLM2-135M-Instruct.*\.gguf$/);
    await shoot(page, 'start-desktop');
    await load();
    expect(requests).toBe(1);
    expect(await page.locator('#model-facts').textContent()).toContain('Q8_0');

    await page.getByLabel('Max tokens').fill('12');
    await page.getByLabel('Temperature').fill('0');
    await ask(page, question);
    expect(await answer(page, 1)).toEqual(greedy);
    expect(await figure(page, 'Answer')).toBe(`${greedy.tokens.length} tokens`);
    expect(await figure(page, 'Density')).toBe('100 %');
    expect(await figure(page, 'Speed')).toMatch(/^[\d.]+ tokens\/s$/);
    expect(await figure(page, 'KV cache')).toMatch(/^[\d.]+ kB$/);
    await shoot(page, 'chat-desktop');

    await page.getByRole('button', { name: 'New chat' }).click();
    expect(await page.locator('#conversation li').count()).toBe(0);
    await page.getByLabel('Temperature').fill(String(sampling.temperature));
    await page.getByLabel('Top-k').fill(String(sampling.topK));
    await page.getByLabel('Top-p').fill(String(sampling.topP));
    await page.getByLabel('Seed').fill(String(sampling.seed));
    await ask(page, question);
    expect(await answer(page, 1)).toEqual(sampled);

    await page.getByRole('button', { name: 'New chat' }).click();
    await page.getByLabel('Method').selectOption('streaming-llm');
    await page.getByRole('spinbutton', { name: 'Sinks' }).fill('1');
    await page.getByRole('spinbutton', { name: 'Window' }).fill('4');
    await ask(page, long);
    expect(await answer(page, 1)).toEqual(sparse);
    // All tokens but the last are decoded densely.
    const end = 87 + sparse.tokens.length - 1;
    const dense = triangle(end) - triangle(87);
    const density = (maskDensity * triangle(87) + dense) / triangle(end);
    expect(density).toBeLessThan(0.5);
    expect(await figure(page, 'Density')).toBe(formatShare(density));
    const mask = page.getByRole('img', { name: 'Attention mask' });
    expect(await mask.getAttribute('aria-label')).toContain(`87 tokens of prompt: ${formatShare(maskDensity)} of`);
    await page.getByRole('spinbutton', { name: 'Window' }).fill('0');
    await page.getByText('window is 0').waitFor();
    await page.getByRole('spinbutton', { name: 'Window' }).fill('4');
    await mask.scrollIntoViewIfNeeded();
    await page.getByRole('button', { name: 'Theme' }).click();
    await page.getByRole('button', { name: 'Theme: light' }).click();
    await page.getByRole('button', { name: 'Theme: dark' }).waitFor();
    await shoot(page, 'chat-desktop-dark');

    await page.reload();
    expect(await page.locator('html').getAttribute('data-theme')).toBe('dark');
    await page.setViewportSize(phone);
    await load();
    expect(requests).toBe(1);
    await shoot(page, 'chat-phone-dark');
  });
});
