/** Frames as lines for `NODE_DEBUG=warren:amqp`. Secrets are left out. */
import { inspect } from 'node:util';
import { FRAME_BODY, FRAME_HEAD_BYTES, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD } from './constants.ts';
import { decodeArguments, methodName } from './methods.ts';

const SECRET_ARGUMENTS: ReadonlySet<string> = new Set(['response', 'newSecret']);

/** The complete frame at `at`: channel, kind and, of a method, its arguments. Never throws. */
export function describeFrame(octets: Buffer, at: number): string {
  const channel = octets.readUInt16BE(at + 1);
  const size = octets.readUInt32BE(at + 3);
  const start = at + FRAME_HEAD_BYTES;
  switch (octets[at]) {
    case FRAME_METHOD:
      return `${channel} ${size < 4 ? 'a method without id' : describeMethod(octets, start, start + size)}`;
    case FRAME_HEADER:
      return `${channel} header, ${size} octets`;
    case FRAME_BODY:
      return `${channel} body, ${size} octets`;
    case FRAME_HEARTBEAT:
      return `${channel} heartbeat`;
    default:
      return `${channel} frame of unknown type ${octets[at]}, ${size} octets`;
  }
}

function describeMethod(octets: Buffer, start: number, end: number): string {
  const id = octets.readUInt32BE(start);
  const name = methodName(id);
  if (name === undefined) return `unknown method ${id >>> 16}.${id & 0xffff}`;
  try {
    return `${name} ${describeArguments(decodeArguments(name, octets, start + 4, end))}`;
  } catch (error) {
    return `${name} (${String(error)})`;
  }
}

/** The arguments of a method on one line. */
export function describeArguments(args: object): string {
  const shown = Object.entries(args).map(([name, value]) => {
    if (SECRET_ARGUMENTS.has(name)) return `${name}=***`;
    return `${name}=${value instanceof Uint8Array ? JSON.stringify(Buffer.from(value).toString()) : inline(value)}`;
  });
  return shown.join(' ');
}

function inline(value: unknown): string {
  return inspect(value, { compact: true, breakLength: Number.POSITIVE_INFINITY, depth: 4 });
}
