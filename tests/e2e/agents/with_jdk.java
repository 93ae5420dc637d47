// The JDK's own HTTP client, as it comes: it offers h2c with each request. A streamed call, its result, the answer.
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

class WithJdk {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static final String TOOLS = """
        [{"type": "function", "function": {"name": "keep", "description": "Keep a note.", "parameters":
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}}]""";

    /** The lines of the answer's stream. */
    private static String ask(String messages) throws IOException, InterruptedException {
        String body = """
            {"model": "%s", "stream": true, "stream_options": {"include_usage": true}, "tools": %s, "messages": [%s]}"""
            .formatted(System.getenv("PEER_MODEL"), TOOLS, messages);
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("PEER_URL") + "/v1/chat/completions"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        var answer = CLIENT.send(request, HttpResponse.BodyHandlers.ofLines());
        String lines = answer.body().collect(Collectors.joining("\n"));
        if (answer.statusCode() != 200) {
            throw new IOException(answer.statusCode() + " " + lines);
        }
        return lines;
    }

    /** The pieces of a string field, joined, escaped as they came. */
    private static String pieces(String lines, String field) {
        return Pattern.compile("\"" + field + "\":\\s*\"((?:[^\"\\\\]|\\\\.)*)\"").matcher(lines).results()
            .map(piece -> piece.group(1))
            .collect(Collectors.joining());
    }

    public static void main(String[] given) throws Exception {
        String question = "{\"role\": \"user\", \"content\": \"%s\"}".formatted(given[0]);
        String arguments = pieces(ask(question), "arguments");
        Files.writeString(Path.of("made.txt"), pieces(arguments.replace("\\\"", "\""), "text"));
        String call = """
            {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "type": "function", "function":
            {"name": "keep", "arguments": "%s"}}]}""".formatted(arguments);
        String result = "{\"role\": \"tool\", \"tool_call_id\": \"call_1\", \"content\": \"kept\"}";
        System.out.println(pieces(ask(question + "," + call + "," + result), "content"));
    }
}
