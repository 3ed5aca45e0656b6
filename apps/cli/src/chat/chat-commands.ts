/** What a line that begins with a slash asks for. */
export type ChatCommand =
  | { readonly name: 'help' | 'clear' | 'exit' }
  | { readonly name: 'system'; readonly text: string }
  | { readonly name: 'unknown'; readonly word: string };

export const chatHelp = `/help           this list
/clear          forget the conversation
/system TEXT    set the system message; without a text, show it
/exit           leave (as do Ctrl-D, and Ctrl-C twice)`;

/** Undefined for a message, paths such as /usr/bin among them. */
export function parseChatCommand(line: string): ChatCommand | undefined {
  const match = /^\/(\w+)(?:\s+(.*))?$/.exec(line.trim());
  if (!match) return undefined;
  const [, name, rest = ''] = match;
  if (name === 'system') return { name, text: rest };
  if (rest === '' && (name === 'help' || name === 'clear' || name === 'exit')) return { name };
  return { name: 'unknown', word: `/${name}` };
}
