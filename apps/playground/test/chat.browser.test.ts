import { mkdir } from 'node:fs/promises';
import { tinyModel, withPage } from '@filigree/testing';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { expectedAnswer } from './support/expected-tokens.js';
import { playgroundSite } from './support/site.js';

const screenshots = '.cache/screenshots';

/** Waits until the answer at `index` is complete; its tokens and text. */
async function answer(page: Page, index: number): Promise<{ tokens: number[]; text: string }> {
  const item = page.locator('#conversation li.assistant:not(.writing)').nth(index);
  await item.waitFor({ timeout: 60_000 });
  const tokens = ((await item.getAttribute('data-tokens')) ?? '').split(' ').map(Number);
  return { tokens, text: (await item.locator('p').textContent()) ?? '' };
}

async function ask(page: Page, question: string): Promise<void> {
  await page.getByLabel('Message').fill(question);
  await page.getByRole('button', { name: 'Send' }).click();
}

/** The value of a term in the strip of figures. */
function figure(page: Page, term: string): Promise<string | null> {
  return page.locator('#statistics div', { hasText: term }).locator('dd').textContent();
}

it('loads a model from an address, answers as the reference does, and keeps the model in the browser', async () => {
  const model = await tinyModel({ seed: 5 });
  const expected = await expectedAnswer(new Uint8Array(model), 'the user was in it', 12);
  expect(expected.tokens.length).toBeGreaterThanOrEqual(8);
  await mkdir(screenshots, { recursive: true });
  await withPage({ ...(await playgroundSite()), '/tiny.gguf': model }, async (page) => {
    let requests = 0;
    page.on('request', (request) => {
      if (request.url().endsWith('/tiny.gguf')) requests++;
    });
    const load = async (): Promise<void> => {
      await page.getByLabel('Address of a GGUF file').fill(new URL('/tiny.gguf', page.url()).href);
      await page.getByRole('button', { name: 'Load' }).click();
      await page.getByLabel('Message').waitFor();
    };
    expect(await page.getByLabel('Address of a GGUF file').inputValue()).toContain('SmolLM2-135M-Instruct');
    await page.getByText('subgroups').waitFor();
    await page.screenshot({ path: `${screenshots}/playground-start.png` });
    await load();
    expect(requests).toBe(1);
    expect(await page.locator('#model-facts').textContent()).toContain('Q8_0');

    await page.getByLabel('Temperature').fill('0');
    await page.getByLabel('Max tokens').fill('12');
    await ask(page, 'the user was in it');
    expect(await answer(page, 0)).toEqual(expected);
    expect(await figure(page, 'Answer')).toBe(`${expected.tokens.length} tokens`);
    expect(await figure(page, 'Density')).toBe('100 %');
    expect(await figure(page, 'Speed')).toMatch(/^[\d.]+ tokens\/s$/);
    expect(await figure(page, 'KV cache')).toMatch(/^[\d.]+ kB$/);
    await page.screenshot({ path: `${screenshots}/playground-chat.png` });

    await page.reload();
    await load();
    expect(requests).toBe(1);
  });
});
