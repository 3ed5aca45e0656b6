// Serves dist on this machine: `node serve.mjs [--port 4173] [--folder dist]`. Any static server does as well.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.map': 'application/json',
};

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '4173' },
    folder: { type: 'string', default: fileURLToPath(new URL('dist', import.meta.url)) },
  },
});
const root = resolve(values.folder);
const port = Number(values.port);
if (!Number.isInteger(port) || port < 0 || port > 65535) fail(`--port is ${values.port}, it must be from 0 to 65535`);
if (!(await isFile(join(root, 'index.html'))))
  fail(`${root} has no index.html; build the page first: pnpm --filter @filigree/playground build`);

const server = createServer(async (request, response) => {
  const path = pathOf(request.url ?? '/');
  if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405).end();
  if (path === undefined || !(await isFile(path))) return void response.writeHead(404).end('not found');
  response.writeHead(200, {
    'content-type': types[extname(path)] ?? 'application/octet-stream',
    'cache-control': 'no-cache',
    'x-content-type-options': 'nosniff',
    // Isolation gives the page precise timers.
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-embedder-policy': 'require-corp',
  });
  if (request.method === 'HEAD') response.end();
  else
    createReadStream(path)
      .on('error', () => response.destroy())
      .pipe(response);
});
server.on('error', (error) => fail(error.message));
// Local only: WebGPU and the browser's storage need https or localhost, and nobody else is meant to see the page.
server.listen(port, '127.0.0.1', () => console.log(`http://localhost:${server.address().port}/`));

/** The file inside of the folder that an address names; undefined when there can be none. */
function pathOf(url) {
  try {
    const name = decodeURIComponent(url.split(/[?#]/, 1)[0]);
    if (name.includes('\0')) return undefined;
    const path = resolve(root, `.${name.endsWith('/') ? `${name}index.html` : name}`);
    return path.startsWith(root + sep) ? path : undefined;
  } catch {
    return undefined;
  }
}

async function isFile(path) {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

function fail(message) {
  console.error(`playground: ${message}`);
  process.exit(1);
}
