/*
 * The router in a Nest application on Express. Nest runs guards for the methods of its controllers only, so a middleware calls
 * the same guard for each connect.
 *
 *   npx tsx examples/nest.ts
 *   curl -N -H 'Cookie: session=s-ada' http://localhost:3000/events
 *   curl -H 'Cookie: session=s-bob' -H 'Content-Type: application/json' -d '{"text":"Lunch?"}' http://localhost:3000/notes/ada
 */
import { running } from './running.ts';
// #region docs
import {
  type BeforeApplicationShutdown,
  Body,
  type CanActivate,
  Controller,
  type ExecutionContext,
  ForbiddenException,
  Injectable,
  Module,
  Param,
  Post,
  Req,
  UseGuards,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NextFunction, Request, Response } from 'express';
import { sse } from '../lib/index.ts';

type SignedInRequest = Request & { user?: string };
const events = sse((conn, req: SignedInRequest) => conn.join(`user:${req.user}`));

@Injectable()
class SignedIn implements CanActivate {
  async canActivate(context: ExecutionContext) {
    const req = context.switchToHttp().getRequest<SignedInRequest>();
    req.user = await userOf(req.headers.cookie);
    return req.user !== undefined;
  }
}

@Controller('notes')
@UseGuards(SignedIn)
class Notes {
  @Post(':user')
  async add(@Param('user') user: string, @Body() body: { text: string }, @Req() req: SignedInRequest) {
    const id = await events.broadcast(
      { event: 'note', data: { from: req.user, text: body.text } },
      { to: `user:${user}` },
    );
    return { id };
  }
}

@Module({ controllers: [Notes], providers: [SignedIn] })
class AppModule implements BeforeApplicationShutdown {
  beforeApplicationShutdown = () => events.close(); // before Nest closes the server, which waits for open responses
}

const app = await NestFactory.create<NestExpressApplication>(AppModule, { logger: ['error', 'warn'] });
const guard = app.get(SignedIn);
const guarded = async (req: Request, res: Response, next: NextFunction) => {
  const context = new ExecutionContextHost([req, res, next], AppModule, events);
  if (!(await guard.canActivate(context))) throw new ForbiddenException();
  next();
};
app.use('/events', guarded, events);
app.enableShutdownHooks(['SIGTERM', 'SIGINT'], { useProcessExit: true });
await app.listen(process.env.PORT ?? 3000);
// #endregion docs

const sessions = new Map([
  ['session=s-ada', 'ada'],
  ['session=s-bob', 'bob'],
]);

async function userOf(cookie = ''): Promise<string | undefined> {
  return sessions.get(cookie);
}

await running(app.getHttpServer());
