/** A claim: a name, who may change it, and its servers. The queue `rhttp.NAME` is its inbox. */
import { timingSafeEqual } from 'node:crypto';
import type { Crew } from './crew.ts';

/** The exchange through which requests go, by the claim's name as routing key. */
export const RHTTP_EXCHANGE = 'amq.rhttp';

/** `rhttp.foo`, the queue of the claim `foo`. */
export function queueOf(name: string): string {
  return `rhttp.${name}`;
}

/** A DNS label [RFC 1034 §3.5] in lower case; undefined when `name` is none. */
export function claimName(name: string): string | undefined {
  return /^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/i.test(name) ? name.toLowerCase() : undefined;
}

export class Claim {
  readonly name: string;
  /** The user who made it. */
  readonly owner: string;
  /** The URL that manages it: its capability. */
  readonly privateToken: string;
  leaseMs: number;
  /** The queue was there before, or somebody else's properties are on it: it stays when the claim ends. */
  readonly ownsQueue: boolean;
  /** One for each user who serves it. */
  readonly crews = new Map<string, Crew>();
  /** Capabilities handed out for it, revoked with it. */
  readonly tokens = new Set<string>();
  ended = false;
  /** When its last server left, in milliseconds of `performance.now()`. */
  idleSince = performance.now();
  leaseTimer: NodeJS.Timeout | undefined;
  #secret: Buffer;

  constructor(options: {
    readonly name: string;
    readonly owner: string;
    readonly secret: string;
    readonly leaseMs: number;
    readonly ownsQueue: boolean;
    readonly privateToken: string;
  }) {
    this.name = options.name;
    this.owner = options.owner;
    this.leaseMs = options.leaseMs;
    this.ownsQueue = options.ownsQueue;
    this.privateToken = options.privateToken;
    this.#secret = Buffer.from(options.secret);
  }

  /** The shared secret with which others may refresh the claim or join it. */
  set secret(secret: string) {
    this.#secret = Buffer.from(secret);
  }

  isSecret(secret: string): boolean {
    const given = Buffer.from(secret);
    return given.length === this.#secret.length && timingSafeEqual(given, this.#secret);
  }

  get serverCount(): number {
    return sum(this.crews, (crew) => crew.serverCount);
  }

  get slots(): number {
    return sum(this.crews, (crew) => crew.slots);
  }

  get freeSlots(): number {
    return sum(this.crews, (crew) => crew.freeSlots);
  }

  get busy(): number {
    return sum(this.crews, (crew) => crew.busy);
  }
}

function sum(crews: ReadonlyMap<string, Crew>, value: (crew: Crew) => number): number {
  let total = 0;
  for (const crew of crews.values()) total += value(crew);
  return total;
}
