/** HTML that may be put into a page as it is. */
export interface Html {
  readonly html: string;
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Markup with values in it: texts and numbers are escaped, {@link Html} and lists of it go in as they are. */
export function html(
  parts: TemplateStringsArray,
  ...values: readonly (string | number | Html | readonly Html[] | undefined)[]
): Html {
  const shown = values.map((value) => {
    if (value === undefined) return '';
    if (typeof value === 'object') return 'html' in value ? value.html : value.map((one) => one.html).join('');
    return String(value).replaceAll(/[&<>"']/g, (character) => escapes[character]);
  });
  return { html: parts.map((part, index) => part + (shown[index] ?? '')).join('') };
}

/** Markup from elsewhere: SVG images that a library drew. */
export function trusted(markup: string): Html {
  return { html: markup };
}

/** A table: text in the first columns, numbers to the right. */
export function htmlTable(head: readonly string[], rows: readonly (readonly (string | Html)[])[], textColumns = 1): Html {
  const cell = (value: string | Html, index: number, tag: 'th' | 'td'): Html => {
    const kind = trusted(index < textColumns ? `<${tag} class="text">` : `<${tag}>`);
    return html`${kind}${value}${trusted(`</${tag}>`)}`;
  };
  const row = (cells: readonly (string | Html)[], tag: 'th' | 'td'): Html =>
    html`<tr>
      ${cells.map((value, index) => cell(value, index, tag))}
    </tr> `;
  return html`<div class="scroll">
    <table>
      <thead>
        ${row(head, 'th')}
      </thead>
      <tbody>
        ${rows.map((cells) => row(cells, 'td'))}
      </tbody>
    </table>
  </div>`;
}
