import { readFile } from 'node:fs/promises';
import { bundle, type SiteFiles } from '@filigree/testing';

const folder = new URL('../../', import.meta.url);

/** The page from its sources, with the same policy and files as in dist. `before`: a script that runs ahead of the page's own. */
export async function playgroundSite({ before = '' }: { before?: string } = {}): Promise<Record<string, string | Uint8Array>> {
  const script = await bundle(`import '../../apps/playground/src/main.ts';`, { platform: 'browser' });
  const html = await readFile(new URL('public/index.html', folder), 'utf8');
  const files: SiteFiles = {
    '/': html.replace('<script ', '<script src="before.js"></script><script '),
    '/before.js': before,
    '/main.js': script,
    '/styles.css': await readFile(new URL('public/styles.css', folder)),
    '/icon.svg': await readFile(new URL('public/icon.svg', folder), 'utf8'),
  };
  return files;
}
