import { readFile } from 'node:fs/promises';
import { bundle, withPage, type SiteFiles } from '@filigree/testing';
import type { Page } from 'playwright-core';
import { expect } from 'vitest';

const folder = new URL('../../', import.meta.url);

/** The page from its sources, with the files of public/ as they are. A script `/before.js` runs ahead of the page's own. */
async function site(): Promise<SiteFiles> {
  const html = await readFile(new URL('public/index.html', folder), 'utf8');
  return {
    '/': html.replace('<script ', '<script src="before.js"></script><script '),
    '/before.js': '',
    '/main.js': await bundle(`import '../../apps/playground/src/main.ts';`, { platform: 'browser' }),
    '/styles.css': await readFile(new URL('public/styles.css', folder)),
    '/icon.svg': await readFile(new URL('public/icon.svg', folder), 'utf8'),
  };
}

/** Opens the page in Chromium, with further files beside it. Fails when an op falls back or a variant is wrong, of which the page warns. */
export async function withPlayground(files: SiteFiles, use: (page: Page) => Promise<void>): Promise<void> {
  await withPage({ ...(await site()), ...files }, async (page) => {
    // A software GPU on a busy machine takes its time.
    page.setDefaultTimeout(120_000);
    const warnings: string[] = [];
    page.on('console', (message) => {
      if (message.text().startsWith('filigree')) warnings.push(message.text());
    });
    await use(page);
    expect(warnings).toEqual([]);
  });
}
