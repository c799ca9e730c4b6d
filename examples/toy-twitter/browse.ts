/**
 * Looking at a queue without taking anything out of it, which AMQP has no verb for: everything is got and given back, in
 * order, while a queue that only one connection can have keeps others from looking at the same time and seeing half.
 */
import type { Channel, ChannelModel, GetMessage } from 'amqplib';
import { TwitterError } from './names.ts';

/** How long somebody else may take to look. */
const TURN_TIMEOUT_MS = 10_000;
const TURN_RETRY_MS = 50;
/** Messages that are asked for before the first has come. */
const AHEAD = 100;

const RESOURCE_LOCKED = 405;
const NOT_FOUND = 404;

/** The number that a channel was closed with; undefined for anything else. */
export function replyCode(error: unknown): number | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'number' ? code : undefined;
}

export function isNotFound(error: unknown): boolean {
  return replyCode(error) === NOT_FOUND;
}

/** A channel that is closed when `act` is done. The broker closes it by itself when something is refused: that rejects. */
export async function withChannel<Result>(
  connection: ChannelModel,
  act: (channel: Channel) => Promise<Result>,
): Promise<Result> {
  const channel = await connection.createChannel();
  // Whatever was asked for rejects; the event says the same once more.
  channel.on('error', () => {});
  try {
    return await act(channel);
  } finally {
    await channel.close().catch(() => {});
  }
}

/**
 * Hands what is ready in `queue` to `look`, oldest first; all of it stays there, unless `look` acks something on the channel
 * that it is given. Those who look through one connection must not do so at the same time. Rejects with TwitterError, busy.
 */
export async function browse<Result>(
  connection: ChannelModel,
  queue: string,
  look: (messages: readonly GetMessage[], channel: Channel) => Promise<Result> | Result,
): Promise<Result> {
  const lock = `${queue}.looking`;
  await takeTurn(connection, lock);
  try {
    return await withChannel(connection, async (channel) => look(await getAll(channel, queue), channel));
  } finally {
    await withChannel(connection, (channel) => channel.deleteQueue(lock)).catch(() => {});
  }
}

async function takeTurn(connection: ChannelModel, lock: string): Promise<void> {
  const deadline = Date.now() + TURN_TIMEOUT_MS;
  for (;;) {
    try {
      await withChannel(connection, (channel) => channel.assertQueue(lock, { exclusive: true, durable: false }));
      return;
    } catch (error) {
      if (replyCode(error) !== RESOURCE_LOCKED) throw error;
      if (Date.now() > deadline)
        throw new TwitterError('busy', 'Too many are looking at the same time. Try again soon.');
    }
    await new Promise((resolve) => setTimeout(resolve, TURN_RETRY_MS));
  }
}

/** What is there now: to wait for the end of what others are still publishing could take for ever. */
async function getAll(channel: Channel, queue: string): Promise<GetMessage[]> {
  const messages: GetMessage[] = [];
  const { messageCount } = await channel.checkQueue(queue);
  while (messages.length < messageCount) {
    const answers = await Promise.all(Array.from({ length: AHEAD }, () => channel.get(queue)));
    for (const answer of answers) if (answer !== false) messages.push(answer);
    if (answers.includes(false)) break;
  }
  return messages;
}
