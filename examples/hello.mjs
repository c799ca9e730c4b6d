/**
 * The first program to try against a broker: sends a message to a queue and takes it out again.
 *
 *   node examples/hello.mjs amqp://127.0.0.1:5672        over TCP (or amqps://)
 *   node examples/hello.mjs ws://127.0.0.1:15674/ws      over WebSocket (or wss://)
 *
 * It speaks through the package @cloudamqp/amqp-client, which a clone of Warren has after `npm start`; elsewhere, install
 * it first. User, password and virtual host are those of the URL; without any, guest, guest and "/".
 */
import { AMQPClient, AMQPWebSocketClient } from '@cloudamqp/amqp-client';

const url = new URL(process.argv[2] ?? 'amqp://127.0.0.1:5672');
const isWebSocket = url.protocol.startsWith('ws');
if (isWebSocket) globalThis.WebSocket ??= (await import('ws')).WebSocket; // Node has one of its own from 22 on.

const user = decodeURIComponent(url.username) || 'guest';
const password = decodeURIComponent(url.password) || 'guest';
const vhost = url.searchParams.get('vhost') ?? '/';
const client = isWebSocket
  ? new AMQPWebSocketClient(new URL(url.pathname, url.origin).href, vhost, user, password)
  : new AMQPClient(url.href);

const connection = await client.connect();
const channel = await connection.channel();
const { name: queue } = await channel.queueDeclare('', { exclusive: true });
await channel.confirmSelect();
await channel.basicPublish('', queue, `Hello from ${url.protocol.slice(0, -1)}!`);
const message = await channel.basicGet(queue);
console.log(message?.bodyString());
await connection.close();
