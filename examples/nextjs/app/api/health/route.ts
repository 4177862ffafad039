/** Each new worker must answer it before it gets requests. */
export function GET() {
  return Response.json({ status: 'ok' });
}
export const dynamic = 'force-dynamic';
