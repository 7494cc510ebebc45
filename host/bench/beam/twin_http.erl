%% HTTP/1.1 servers that respond with "Hello, world!", for a load of another program. The first line
%% that they print is the port; they run until they are killed.
-module(twin_http).
-export([start/1, init/2]).

-define(HELLO, <<"Hello, world!">>).

%% Without libraries: a process for each connection, which looks for the end of each head.
start(["gen_tcp"]) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {reuseaddr, true},
                                        {backlog, 4096}, {nodelay, true}]),
    {ok, Port} = inet:port(Listener),
    io:format("~b~n", [Port]),
    accept(Listener);
start(["cowboy"]) ->
    case application:ensure_all_started(cowboy) of
        {ok, _} -> ok;
        {error, Reason} ->
            io:format(standard_error, "cowboy cannot be started: ~p~n", [Reason]),
            halt(1)
    end,
    Routes = cowboy_router:compile([{'_', [{'_', ?MODULE, []}]}]),
    {ok, _} = cowboy:start_clear(hello, #{max_connections => infinity,
                                          socket_opts => [{port, 0}, {backlog, 4096},
                                                          {nodelay, true}]},
                                 #{env => #{dispatch => Routes}, max_keepalive => infinity,
                                   request_timeout => infinity, idle_timeout => infinity}),
    io:format("~b~n", [ranch:get_port(hello)]),
    receive never -> ok end.

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> serve(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener).

serve(Socket) ->
    ok = inet:setopts(Socket, [{active, 100}]),
    requests(Socket, <<>>).

requests(Socket, Rest) ->
    receive
        {tcp, Socket, Bytes} ->
            requests(Socket, answer(Socket, <<Rest/binary, Bytes/binary>>));
        {tcp_passive, Socket} ->
            ok = inet:setopts(Socket, [{active, 100}]),
            requests(Socket, Rest);
        {tcp_closed, Socket} -> ok;
        {tcp_error, Socket, _} -> ok
    end.

%% Responds to all whole heads; returns the rest.
answer(Socket, Bytes) ->
    case binary:split(Bytes, <<"\r\n\r\n">>) of
        [_, Rest] ->
            _ = gen_tcp:send(Socket, [<<"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
                                        "content-length: 13\r\n\r\n">>, ?HELLO]),
            answer(Socket, Rest);
        [Rest] -> Rest
    end.

%% cowboy's handler.
init(Request, State) ->
    Headers = #{<<"content-type">> => <<"text/plain">>},
    {ok, cowboy_req:reply(200, Headers, ?HELLO, Request), State}.
