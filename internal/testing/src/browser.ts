import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';

const browsers = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** WebGPU on SwiftShader, and nothing that talks to the network. */
const flags = [
  '--headless=new',
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--disable-quic',
];

/** What a page is made of: contents by path; the type follows from the ending. */
export type SiteFiles = Readonly<Record<string, string | Uint8Array>>;

const types: Readonly<Record<string, string>> = {
  html: 'text/html',
  js: 'text/javascript',
  css: 'text/css',
  svg: 'image/svg+xml',
  json: 'application/json',
};

function serve(files: SiteFiles): Promise<Server> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const content = files[path] ?? files[`${path}index.html`];
    if (content === undefined) {
      // Browsers ask for an icon that no page has to have.
      response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
      return;
    }
    const ending = /\.([a-z]+)$/.exec(path)?.[1] ?? 'html';
    // Isolation gives pages precise timers and shared memory, as the apps' own servers do.
    response.writeHead(200, {
      'content-type': types[ending] ?? 'application/octet-stream',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    });
    response.end(content);
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      resolve(server);
    });
  });
}

/** The browser of this machine; `FILIGREE_CHROMIUM` names another one. */
function findBrowser(): string {
  const found = process.env['FILIGREE_CHROMIUM'] ?? browsers.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`the browser tests need Chromium; looked for ${browsers.join(', ')}`);
  return found;
}

/**
 * Serves `files` on localhost, opens `/` in headless Chromium with WebGPU, and gives the page to `use`. Fails when the page logs an error or
 * throws one. Browser, server and profile are gone when it resolves.
 */
export async function withPage<T>(files: SiteFiles, use: (page: Page) => Promise<T>): Promise<T> {
  const { chromium } = await import('playwright-core');
  const server = await serve(files);
  const profile = await mkdtemp(join(tmpdir(), 'filigree-browser-'));
  try {
    // Playwright's own headless mode is the old shell, which has no WebGPU.
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: findBrowser(),
      headless: false,
      args: flags,
    });
    try {
      const page = await context.newPage();
      const problems: string[] = [];
      page.on('pageerror', (error) => problems.push(error.message));
      page.on('console', (message) => {
        if (message.type() === 'error') problems.push(message.text());
      });
      await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
      const result = await use(page);
      if (problems.length > 0) throw new Error(`the page reported: ${problems.join('; ')}`);
      return result;
    } finally {
      await context.close();
    }
  } finally {
    server.closeAllConnections();
    server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
