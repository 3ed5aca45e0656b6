import { tinyModel } from '@filigree/testing';
import type { Page } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { expectedAnswer } from './support/expected-answer.js';
import { answer, ask, begun, chooseFile, openFile, phone, shoot } from './support/page.js';
import { withPlayground } from './support/with-playground.js';

const question = 'the user was in it';
/** Keeps the devices that the page asks for, so that a test can take one away. */
const keepDevices = `
const request = GPUAdapter.prototype.requestDevice;
globalThis.devices = [];
GPUAdapter.prototype.requestDevice = async function (...options) {
  const device = await request.apply(this, options);
  devices.push(device);
  return device;
};`;

/** The alert with this code; its text. */
async function problem(page: Page, code: string): Promise<string> {
  const alert = page.getByRole('alert').filter({ hasText: code });
  await alert.waitFor();
  return (await alert.textContent()) ?? '';
}

describe('the playground in trouble', () => {
  it('runs by keyboard alone, stops at Escape, and survives the loss of its device', async () => {
    const model = await tinyModel({ seed: 5 });
    const expected = await expectedAnswer(model, question, { maxTokens: 10 });
    await withPlayground({ '/tiny.gguf': model, '/before.js': keepDevices }, async (page) => {
      const { keyboard } = page;
      const focused = (): Promise<string> => page.evaluate(() => document.activeElement?.id ?? '');
      const tabTo = async (id: string): Promise<void> => {
        for (let presses = 0; (await focused()) !== id; presses++) {
          expect(presses, `Tab does not reach ${id}`).toBeLessThan(30);
          await keyboard.press('Tab');
        }
      };
      const type = async (text: string): Promise<void> => {
        await keyboard.press('Control+A');
        await keyboard.type(text);
      };
      await page.getByText('WebGPU on').waitFor();
      await tabTo('field-temperature');
      await type('0');
      await tabTo('field-max-tokens');
      await type('400');
      await tabTo('address');
      await type(new URL('/tiny.gguf', page.url()).href);
      await keyboard.press('Enter');
      await page.getByLabel('Message').waitFor();
      expect(await focused()).toBe('prompt');
      await keyboard.type(question);
      await keyboard.press('Enter');
      await begun(page);
      await keyboard.press('Escape');
      const stopped = await answer(page, 1);
      expect(stopped.tokens.length).toBeLessThan(400);
      expect(await page.locator('#conversation li.assistant').textContent()).toContain('stopped');
      expect(await focused()).toBe('prompt');
      expect(await page.getByRole('alert').isVisible()).toBe(false);

      await keyboard.type('again');
      await keyboard.press('Enter');
      await begun(page);
      await page.evaluate('devices.at(-1).destroy()');
      expect(await problem(page, 'DEVICE_LOST')).toContain('The GPU went away');
      await page.getByRole('button', { name: 'Reload device' }).click();
      await page.getByText('WebGPU on').waitFor();
      await page.getByLabel('Message').waitFor();
      expect(await page.locator('#conversation li.assistant').count()).toBe(2);

      await page.getByRole('button', { name: 'New chat' }).click();
      await page.getByLabel('Max tokens').fill('10');
      await ask(page, question);
      expect(await answer(page, 1)).toEqual(expected);
    });
  });

  it('says what is wrong with a model and takes the next one', async () => {
    const model = await tinyModel({ seed: 5 });
    const unknown = await tinyModel({ metadata: [['general.architecture', { type: 'string', value: 'mamba' }]] });
    const broken = await tinyModel({ nan: 'output_norm.weight' });
    await withPlayground({ '/tiny.gguf': model }, async (page) => {
      await page.setViewportSize(phone);
      await page.getByText('WebGPU on').waitFor();
      await shoot(page, 'start-phone');
      await chooseFile(page, model.subarray(0, model.length / 2), 'half.gguf');
      expect(await problem(page, 'GGUF_FORMAT')).toContain('half.gguf');
      await chooseFile(page, new TextEncoder().encode('<html>not a model</html>'), 'page.gguf');
      expect(await problem(page, 'page.gguf')).toContain('GGUF_FORMAT');
      await chooseFile(page, unknown, 'unknown.gguf');
      expect(await problem(page, 'UNSUPPORTED_ARCHITECTURE')).toContain('mamba');
      await shoot(page, 'problem-phone');

      // A server that never answers: Escape ends the wait and is no problem.
      await page.route('**/slow.gguf', () => undefined);
      await page.getByLabel('Address of a GGUF file').fill(new URL('/slow.gguf', page.url()).href);
      await page.getByRole('button', { name: 'Load', exact: true }).click();
      await page.getByRole('progressbar', { name: 'slow.gguf' }).waitFor();
      await shoot(page, 'loading-phone');
      await page.keyboard.press('Escape');
      await page.getByLabel('Address of a GGUF file').waitFor();
      expect(await page.getByRole('alert').isVisible()).toBe(false);
      expect(await page.getByRole('progressbar').isVisible()).toBe(false);

      const protocol = await page.context().newCDPSession(page);
      await protocol.send('Storage.overrideQuotaForOrigin', { origin: new URL(page.url()).origin, quotaSize: 1000 });
      await page.getByLabel('Address of a GGUF file').fill(new URL('/tiny.gguf', page.url()).href);
      await page.getByRole('button', { name: 'Load', exact: true }).click();
      expect(await problem(page, 'QUOTA')).toContain('too little storage');
      await page.getByRole('button', { name: 'Load without keeping it' }).waitFor();

      await openFile(page, broken);
      await ask(page, question);
      expect(await problem(page, 'NON_FINITE_LOGITS')).toContain('weights are broken');
      expect(await page.getByLabel('Message').inputValue()).toBe(question);
      await page.getByRole('alert').getByRole('button', { name: 'Change model' }).click();
      await openFile(page, model);
      await ask(page, `${'in that '.repeat(300)}`);
      expect(await problem(page, 'CONTEXT_LENGTH')).toContain('512');

      // A setting that is out of range is brought into view, and nothing is asked.
      const settings = page.getByRole('button', { name: 'Settings' });
      await settings.click();
      await page.getByLabel('Top-p').fill('7');
      await settings.click();
      expect(await page.getByLabel('Top-p').isVisible()).toBe(false);
      await ask(page, question);
      expect(await page.getByLabel('Top-p').isVisible()).toBe(true);
      expect(await settings.getAttribute('aria-expanded')).toBe('true');
      expect(await page.evaluate(() => document.activeElement?.id)).toBe('field-top-p');
      expect(await page.locator('#conversation li').count()).toBe(0);
      await shoot(page, 'settings-phone');
      await page.getByLabel('Top-p').fill('1');
      await page.getByLabel('Max tokens').fill('8');
      await settings.click();
      await ask(page, question);
      await answer(page, 1);
      await shoot(page, 'chat-phone');
    });
  });
});
