package $package;

import android.content.Context;
import android.content.res.AssetFileDescriptor;
import com.mindspore.MSTensor;
import com.mindspore.Model;
import com.mindspore.config.CpuBindMode;
import com.mindspore.config.DeviceType;
import com.mindspore.config.MSContext;
import com.mindspore.config.ModelType;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.util.List;

/**
 * $title
 *
$interface
 */
public final class $Class implements AutoCloseable {
    private static final String MODEL = "$file";
    private static final String[] OUTPUTS = {$output_names};
    private static final String[] OUTPUT_DTYPES = {$output_dtypes};
    private static final String[] GOLDEN_INPUTS = {$golden_inputs};
    private static final String[] GOLDEN_OUTPUTS = {$golden_outputs};
    private static final int[][] GOLDEN_SHAPES = {$golden_shapes};
    private static final boolean ANY_SIZE = $any_size;
    private static final double TOLERANCE = $tolerance;

    private final Model model = new Model();

    /** Loads the model from the app's assets, where it must be stored uncompressed. */
    public $Class(Context context, int threads) throws IOException {
        MSContext options = new MSContext();
        if (!options.init(threads, CpuBindMode.HIGHER_CPU)
                || !options.addDeviceInfo(DeviceType.DT_CPU, false)) {
            throw new IOException("MindSpore Lite has no CPU context");
        }
        try (AssetFileDescriptor file = context.getAssets().openFd(MODEL);
                FileInputStream stream = new FileInputStream(file.getFileDescriptor())) {
            MappedByteBuffer bytes = stream.getChannel().map(
                    FileChannel.MapMode.READ_ONLY, file.getStartOffset(), file.getDeclaredLength());
            if (!model.build(bytes, ModelType.MT_MINDIR, options)) {
                throw new IOException("MindSpore Lite does not load " + MODEL);
            }
        }
    }

    /** States the shapes of the inputs: needed when a size is not the one of the call before. */
    public void resize(int[]... shapes) throws IOException {
        if (!model.resize(model.getInputs(), shapes)) {
            throw new IOException("MindSpore Lite does not take these shapes");
        }
    }

    /** Results, in order, for inputs in order: little-endian elements in direct buffers. */
    public ByteBuffer[] run(ByteBuffer... inputs) throws IOException {
        List<MSTensor> tensors = model.getInputs();
        for (int i = 0; i < inputs.length; i++) {
            if (!tensors.get(i).setData(inputs[i])) {
                throw new IOException("input " + i + " does not fit " + tensors.get(i).tensorName());
            }
        }
        if (!model.predict()) {
            throw new IOException("MindSpore Lite does not run " + MODEL);
        }
        ByteBuffer[] results = new ByteBuffer[OUTPUTS.length];
        for (int i = 0; i < OUTPUTS.length; i++) {
            byte[] bytes = model.getOutputByTensorName(OUTPUTS[i]).getByteData();
            results[i] = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        }
        return results;
    }

    /** Runs the sample that came with the model; its scaled error, an exception when it is too large. */
    public double selfTest(Context context) throws IOException {
        if (ANY_SIZE) {
            resize(GOLDEN_SHAPES);
        }
        ByteBuffer[] inputs = new ByteBuffer[GOLDEN_INPUTS.length];
        for (int i = 0; i < inputs.length; i++) {
            inputs[i] = read(context, GOLDEN_INPUTS[i]);
        }
        ByteBuffer[] results = run(inputs);
        double worst = 0;
        for (int i = 0; i < results.length; i++) {
            worst = Math.max(worst, distance(results[i], read(context, GOLDEN_OUTPUTS[i]), OUTPUT_DTYPES[i]));
        }
        if (!(worst <= TOLERANCE)) {
            throw new IOException("self-test of " + MODEL + ": scaled error " + worst);
        }
        return worst;
    }

    @Override
    public void close() {
        model.free();
    }

    private static ByteBuffer read(Context context, String name) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (InputStream stream = context.getAssets().open(name)) {
            byte[] part = new byte[1 << 16];
            for (int n = stream.read(part); n >= 0; n = stream.read(part)) {
                bytes.write(part, 0, n);
            }
        }
        ByteBuffer direct = ByteBuffer.allocateDirect(bytes.size()).order(ByteOrder.LITTLE_ENDIAN);
        direct.put(bytes.toByteArray()).rewind();
        return direct;
    }

    private static double distance(ByteBuffer found, ByteBuffer wanted, String dtype) {
        if (found.remaining() != wanted.remaining()) {
            return Double.POSITIVE_INFINITY;
        }
        double gap = 0;
        double top = 1e-6;
        while (wanted.hasRemaining()) {
            double a = next(found, dtype);
            double b = next(wanted, dtype);
            gap = Math.max(gap, a == b ? 0 : Math.abs(a - b));
            top = Math.max(top, Math.abs(b));
        }
        return gap / top;
    }

    private static double next(ByteBuffer data, String dtype) {
        switch (dtype) {
            case "float32": return data.getFloat();
            case "int32": return data.getInt();
            case "int64": return data.getLong();
            default: return data.get();
        }
    }
}
