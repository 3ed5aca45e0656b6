import { mkdir } from 'node:fs/promises';
import type { Page } from 'playwright-core';
import { expect } from 'vitest';
import type { Answer } from './expected-answer.js';

export const desktop = { width: 1280, height: 720 };
export const phone = { width: 390, height: 844 };

/** Opens a model as a file and waits until the page can chat. */
export async function openFile(page: Page, bytes: Uint8Array, name = 'tiny.gguf'): Promise<void> {
  await chooseFile(page, bytes, name);
  await page.getByLabel('Message').waitFor();
}

export async function chooseFile(page: Page, bytes: Uint8Array, name: string): Promise<void> {
  const file = { name, mimeType: 'application/octet-stream', buffer: Buffer.from(bytes) };
  await page.getByLabel('Choose a file').setInputFiles(file);
}

export async function ask(page: Page, question: string): Promise<void> {
  await page.getByLabel('Message').fill(question);
  await page.getByRole('button', { name: 'Send' }).click();
}

/** The newest answer, once it is complete and there are `count` of them. */
export async function answer(page: Page, count: number): Promise<Answer> {
  const item = page.locator('#conversation li.assistant:not(.writing)').nth(count - 1);
  await item.waitFor();
  const tokens = ((await item.getAttribute('data-tokens')) ?? '').split(' ').map(Number);
  return { tokens, text: (await item.locator('p').textContent()) ?? '' };
}

/** Waits until an answer has text; the first tokens may be parts of a character, and have none. */
export async function begun(page: Page): Promise<void> {
  await page.locator('#conversation li.writing p:not(:empty)').waitFor({ state: 'attached' });
}

/** The value of a term in the strip of figures. */
export function figure(page: Page, term: string): Promise<string | null> {
  return page.locator('#statistics div', { hasText: term }).locator('dd').textContent();
}

/** A screenshot, after checking that nothing sticks out of the screen and that every control has a name. */
export async function shoot(page: Page, name: string): Promise<void> {
  expect(await overflowing(page), `${name}: elements beyond the screen's edge`).toEqual([]);
  expect(await unnamed(page), `${name}: controls without a name`).toEqual([]);
  const folder = '.cache/screenshots';
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/playground-${name}.png`, animations: 'disabled' });
}

/** Visible elements that reach beyond the left or right edge, and the page itself when it scrolls sideways. */
async function overflowing(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const wide = document.documentElement.scrollWidth > innerWidth ? ['the page'] : [];
    for (const element of document.querySelectorAll('header *, aside *, main *')) {
      const { left, right, width } = element.getBoundingClientRect();
      if (width > 1 && (left < -0.5 || right > innerWidth + 0.5)) wide.push(`${element.tagName} ${element.id}`);
    }
    return wide;
  });
}

const controls = ['button', 'textbox', 'spinbutton', 'combobox', 'progressbar', 'log', 'complementary', 'form', 'region'];

/** Roles of the accessibility tree that need a name and have none. */
async function unnamed(page: Page): Promise<string[]> {
  const protocol = await page.context().newCDPSession(page);
  const { nodes } = await protocol.send('Accessibility.getFullAXTree');
  await protocol.detach();
  const found = nodes.filter(({ ignored, role }) => !ignored && controls.includes(String(role?.value)));
  expect(found.length).toBeGreaterThan(3);
  return found.filter(({ name }) => !name?.value).map(({ role }) => String(role?.value));
}
