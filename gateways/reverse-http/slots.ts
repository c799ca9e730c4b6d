/**
 * `GET PUBLIC-URL/.slots`: how much a name can take on now. For whoever distributes work: a master asks it before it cuts
 * a job into pieces, and a gateway that is a server itself parks as many polls above as it has free slots below.
 */
import type { ServerResponse } from 'node:http';
import { queueOf } from './claim.ts';
import type { Claims } from './claims.ts';
import { HttpError } from './http-error.ts';

export interface SlotCount {
  readonly name: string;
  /** Requests that can be served at a time. */
  readonly slots: number;
  readonly free: number;
  readonly busy: number;
  /** Requests that wait for a free slot. */
  readonly waiting: number;
  /** Consumers that take as many requests as there are: their slots are in none of the counts. */
  readonly unlimited: number;
}

export class Slots {
  readonly #claims: Claims;

  constructor(claims: Claims) {
    this.#claims = claims;
  }

  /** Answers as JSON. Throws HttpError 404 for a name that nobody serves. */
  async onRequest(response: ServerResponse, name: string): Promise<void> {
    const count = await this.count(name);
    if (count === undefined) throw new HttpError(404, 'nobody has claimed this');
    const json = `${JSON.stringify(count)}\n`;
    response.writeHead(200, {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(json),
      'Cache-Control': 'no-store',
      'Access-Control-Allow-Origin': '*',
    });
    response.end(json);
  }

  /** Servers of this door and consumers of every other one together; undefined when the name has no queue. */
  async count(name: string): Promise<SlotCount | undefined> {
    const claim = this.#claims.get(name);
    const { queues } = await this.#claims.picture.look();
    const queue = queues.find((view) => view.name === queueOf(name));
    if (claim === undefined && queue === undefined) return undefined;
    const ours = new Set(Array.from(claim?.crews.values() ?? [], (crew) => crew.connectionName));
    const others = queue?.consumers.filter(({ connection }) => !ours.has(connection)) ?? [];
    const limited = others.filter(({ prefetch, noAck }) => prefetch > 0 && !noAck);
    const otherSlots = limited.reduce((sum, { prefetch }) => sum + prefetch, 0);
    const otherFree = limited.reduce((sum, { prefetch, unacked }) => sum + Math.max(0, prefetch - unacked), 0);
    const free = (claim?.freeSlots ?? 0) + otherFree;
    const busy = (claim?.busy ?? 0) + otherSlots - otherFree;
    return {
      name,
      slots: free + busy,
      free,
      busy,
      waiting: queue?.messagesReady ?? 0,
      unlimited: others.length - limited.length,
    };
  }
}
