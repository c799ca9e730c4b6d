/** A broker that can be benched: how to know that it is there, start it and stop it. */

/** Where and as whom to log in. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  /** Where it speaks STOMP. */
  readonly stompPort: number;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
}

/** A broker that this bench has started. */
export interface RunningPeer {
  readonly endpoint: Endpoint;
  /** Its first process; the others descend from it. */
  readonly pid: number;
  /** Where it tells how late its event loop has been (`../loop-delay.mjs`); undefined for what has none. */
  readonly loopDelayPath?: string;
  /** Asks it to end, then makes it; resolves when it is gone and its files are removed. */
  stop(): Promise<void>;
}

export interface Peer {
  /** As in `--peers` and the table. */
  readonly name: string;
  /** Why it cannot be started here; undefined when it can. */
  missing(): string | undefined;
  /** e.g. `RabbitMQ 3.10.8`. */
  version(): string;
  /** With its files, if it has any, in a new temporary folder. Rejects with what it printed when it does not come up. */
  start(): Promise<RunningPeer>;
}
