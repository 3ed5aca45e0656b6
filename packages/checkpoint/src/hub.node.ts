export { cacheDirectory, listCached } from './hub/cache.node.js';
export { hubDownload } from './hub/hub-download.node.js';
export { hubSnapshot } from './hub/hub-snapshot.node.js';
export { pipModel } from './hub/pip-model.node.js';
export { resolveModel } from './hub/resolve-model.node.js';
