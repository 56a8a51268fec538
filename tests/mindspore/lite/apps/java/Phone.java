import android.content.Context;
import com.mindspore.Model;

/** Runs the self-test of the class CLASS: arguments are the folder and the factor. */
public class Phone {
    public static void main(String[] args) throws Exception {
        Model.folder = args[0];
        Model.factor = Float.parseFloat(args[1]);
        TABLES
        Context context = new Context(args[0]);
        try (models.CLASS model = new models.CLASS(context, 2)) {
            System.out.println(model.selfTest(context));
        } catch (java.io.IOException e) {
            System.out.println(e.getMessage());
        }
        System.out.println(Model.freed);
    }
}
