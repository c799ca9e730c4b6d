/** The messages of the crash test: what each holds follows from its id, so that every octet of it can be checked. */
import type { Message, Options } from 'amqplib';

/** Bodies of this length and more go in several frames, and alone into a commit sooner or later. */
export const LARGE_BYTES = 200_000;

export interface Letter {
  readonly id: string;
  readonly bytes: number;
  readonly priority: number;
  readonly persistent: boolean;
  /** Milliseconds that a delayed exchange holds it back. */
  readonly delayMs?: number;
}

export function bodyOf(id: string, bytes: number): Buffer {
  return Buffer.alloc(bytes, `${id}|`);
}

export function optionsOf({ id, bytes, priority, persistent, delayMs }: Letter): Options.Publish {
  return {
    messageId: id,
    persistent,
    priority,
    contentType: 'text/plain',
    correlationId: `c-${id}`,
    timestamp: 1_700_000_000 + bytes,
    headers: {
      bytes,
      nested: { id, list: [1, 'two', { three: true }] },
      ...(delayMs !== undefined && { 'x-delay': delayMs }),
    },
  };
}

/** What is wrong with a message that should be the one that its id names; undefined when nothing is. */
export function wrongWith(message: Message): string | undefined {
  const { messageId, correlationId, contentType, timestamp, headers = {} } = message.properties;
  const id = String(messageId);
  const bytes = Number(headers.bytes);
  if (correlationId !== `c-${id}` || contentType !== 'text/plain' || Number(timestamp) !== 1_700_000_000 + bytes)
    return `${id} has other properties: ${JSON.stringify(message.properties)}`;
  if (JSON.stringify(headers.nested) !== JSON.stringify({ id, list: [1, 'two', { three: true }] }))
    return `${id} has other headers: ${JSON.stringify(headers)}`;
  if (!message.content.equals(bodyOf(id, bytes))) return `${id} has another body of ${message.content.length} octets`;
  return undefined;
}
