import { Counter } from '../components/counter';

export const dynamic = 'force-dynamic'; // rendered for each request, by the worker that it reaches

export default function Home() {
  return (
    <main>
      <h1>Fresh today</h1>
      <p>Release {process.env.PERCORE_RELEASE ?? 'of nobody'}, worker {process.env.NODE_APP_INSTANCE ?? '0'}</p>
      <Counter />
    </main>
  );
}
