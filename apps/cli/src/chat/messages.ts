import type { ChatMessage } from '@filigree/transformer';

/** A conversation with its system message in front, where there is one. */
export function chatMessages(system: string | undefined, messages: readonly ChatMessage[]): ChatMessage[] {
  return system === undefined || system === '' ? [...messages] : [{ role: 'system', content: system }, ...messages];
}
