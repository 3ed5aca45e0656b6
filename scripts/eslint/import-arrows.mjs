import { basename } from 'node:path';
import { arrows, backendChooser, backends, nodeOnly } from './arrows.mjs';

/** Files for Node: reached through package.json `imports` or `exports`, never by an import of a portable file. */
const nodeFile = /(?:^|[./])node\.ts$/;

/** Why a file of a package may not import `source`; undefined when it may. */
function objection(source, { name, file, isNodeFile }) {
  const other = /^@filigree\/([^/]+)/.exec(source)?.[1];
  if (other === 'wgsl' || other === name) return undefined;
  if (other) {
    const allowed = [...arrows[name], ...(name === 'transformer' && backendChooser.test(basename(file)) ? backends : [])];
    return allowed.includes(other) ? undefined : `${name} may import ${allowed.join(', ') || 'no other package'}, not ${other}`;
  }
  if (/^\.\.?\//.test(source)) {
    const place = new URL(source, `file:///packages/${name}/src/${file}`).pathname;
    if (!place.startsWith(`/packages/${name}/src/`) && !place.endsWith('.json')) {
      return `${source} lies outside of ${name}/src: import the other package by its name`;
    }
    if (!isNodeFile && /(?:^|[./])node\.js$/.test(source)) {
      return `${source} is for Node and this file is not: reach it through "imports" of package.json`;
    }
    return undefined;
  }
  if (!isNodeFile && source.startsWith('node:'))
    return `${source}: only *.node.ts files use Node modules, the rest runs in browsers`;
  return undefined;
}

/** Imports between packages point one way; portable files stay free of Node. */
export const importArrows = {
  meta: { type: 'problem', schema: [], messages: { forbidden: '{{reason}}.' } },
  create(context) {
    const found = /packages\/([^/]+)\/src\/(.+)$/.exec(context.filename.replaceAll('\\', '/'));
    if (!found) return {};
    const [, name, file] = found;
    if (!(name in arrows)) {
      return {
        Program: (node) =>
          context.report({
            node,
            messageId: 'forbidden',
            data: { reason: `${name} has no line in scripts/eslint/arrows.mjs` },
          }),
      };
    }
    const isNodeFile = nodeOnly.includes(name) || nodeFile.test(file);
    const check = (node) => {
      const source = node.source?.value ?? node.argument?.literal?.value;
      const reason = typeof source === 'string' ? objection(source, { name, file, isNodeFile }) : undefined;
      if (reason) context.report({ node, messageId: 'forbidden', data: { reason } });
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
      TSImportType: check,
    };
  },
};
